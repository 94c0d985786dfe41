"""Augmentation of whole batches on the training device: one resampling for everything spatial, then intensity.

Shapes: B scans, C channels, P planes, *spatial: H x W pixels or D x H x W voxels.
image_BC: float32 (B, C, *spatial) in 0..1; mask_B: int64 class indices (B, *spatial).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from octa_backend.training.augmentation_options import Augmentation
from octa_backend.training.intensity import add_noise, blur, change_brightness_and_contrast, change_gamma
from octa_backend.training.octa_artefacts import Motion, along_rows, cast_shadows, draw_lines, draw_motion, saturate
from octa_backend.training.spatial import random_affine, random_deformation, sampling_grid


class Augmented(NamedTuple):
    """Image, mask and further planes that went along, shapes and types as given."""

    image: Tensor
    mask: Tensor
    planes: Tensor | None


def augment(
    image_BC: Tensor,
    mask_B: Tensor,
    planes_BP: Tensor | None,
    generator: torch.Generator,
    options: Augmentation,
    spacing: Sequence[float] = (),
) -> Augmented:
    """Move each scan with its mask and planes, then change the intensities of the image alone.

    Right-angle turns are by 180 degrees only where height and width differ, so that nothing is stretched. Image and
    planes are resampled bilinearly, the mask by its nearest pixel; what lies outside is mirrored in.

    Args:
        image_BC: float32, in 0..1.
        mask_B: int64 class indices.
        planes_BP: float32, (B, P, *spatial), numbers that belong to pixels, such as weights; None: there are none.
        generator: a CPU generator; the same state gives the same batch on every device.
        options: how often and how far.
        spacing: sides of a pixel along each axis; empty: all alike.
    """
    if planes_BP is not None and planes_BP.shape[2:] != image_BC.shape[2:]:
        raise ValueError(f"planes are {tuple(planes_BP.shape)} but the image is {tuple(image_BC.shape)}")
    motion = draw_motion(image_BC.shape[0], image_BC.shape[2], options, generator)
    grid = _random_grid(image_BC, motion, options, generator, spacing)
    # Image and planes share one call: the grid is read once.
    seen = image_BC if planes_BP is None else torch.cat([image_BC, planes_BP], dim=1)
    moved = F.grid_sample(seen, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    classes = mask_B.unsqueeze(1).to(image_BC.dtype)
    classes = F.grid_sample(classes, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    channels = image_BC.shape[1]
    image = _change_intensity(moved[:, :channels], motion, options, generator)
    planes = None if planes_BP is None else moved[:, channels:]
    return Augmented(image, classes.squeeze(1).to(mask_B.dtype), planes)


def _random_grid(
    image_BC: Tensor,
    motion: Motion | None,
    options: Augmentation,
    generator: torch.Generator,
    spacing: Sequence[float],
) -> Tensor:
    count, spatial, device = image_BC.shape[0], tuple(image_BC.shape[2:]), image_BC.device
    affine = random_affine(count, spatial, options, generator, spacing).to(device)
    shifts = random_deformation(count, spatial, options, generator, device)
    if motion is not None:
        rows = along_rows(motion, spatial, device)
        shifts = rows if shifts is None else shifts + rows
    return sampling_grid(affine, spatial, shifts)


def _change_intensity(
    image: Tensor, motion: Motion | None, options: Augmentation, generator: torch.Generator
) -> Tensor:
    """In the order in which it comes about: light lost in the eye, motion, optics, sensor, display."""
    image = cast_shadows(image, options, generator)
    if motion is not None:
        image = draw_lines(image, motion, generator)
    image = blur(image, options, generator)
    image = add_noise(image, options, generator)
    image = change_brightness_and_contrast(image, options, generator)
    image = change_gamma(image, options, generator)
    return saturate(image, options, generator)
