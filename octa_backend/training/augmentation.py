"""Augmentation of whole batches on the training device: one resampling for everything spatial, then intensity.

Shapes: B scans, C channels, H x W pixels. image_BCHW: float32 in 0..1; mask_BHW: int64 class indices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Flips and right-angle turns move whole pixels, so every scan gets them. Rotation and scale blur vessels of one or two
# pixels, so most scans are left sharp (the shares of F. Isensee et al., nnU-Net, 2021).
ROTATION_SHARE, SCALE_SHARE = 0.2, 0.2
BRIGHTNESS_SHARE, CONTRAST_SHARE = 0.15, 0.15

MAX_ROTATION_DEGREES = 15.0
SCALE_RANGE = (0.9, 1.1)
BRIGHTNESS_RANGE = (-0.1, 0.1)  # added, of the full range
CONTRAST_RANGE = (0.8, 1.25)  # factor around the scan's own mean


def augment(image_BCHW: Tensor, mask_BHW: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip and turn each scan with its mask; rotate, scale, brighten or change the contrast of some.

    Right-angle turns are by 180 degrees only where H and W differ, so that nothing is stretched. The image is
    resampled bilinearly, the mask by its nearest pixel; what lies outside is mirrored in.

    Args:
        image_BCHW: float32, in 0..1.
        mask_BHW: int64 class indices.
        generator: a CPU generator; the same state gives the same batch on every device.

    Returns:
        Augmented image and mask, shapes and types as given.
    """
    height, width = image_BCHW.shape[-2:]
    theta_B23 = _random_affine(image_BCHW.shape[0], height, width, generator).to(image_BCHW.device)
    grid_BHW2 = F.affine_grid(theta_B23, [image_BCHW.shape[0], 1, height, width], align_corners=False)
    image = F.grid_sample(image_BCHW, grid_BHW2, mode="bilinear", padding_mode="reflection", align_corners=False)
    mask_B1HW = mask_BHW.unsqueeze(1).to(image.dtype)
    mask_B1HW = F.grid_sample(mask_B1HW, grid_BHW2, mode="nearest", padding_mode="reflection", align_corners=False)
    return _change_intensity(image, generator), mask_B1HW.squeeze(1).to(mask_BHW.dtype)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _for_some(values: Tensor, share: float, neutral: float, generator: torch.Generator) -> Tensor:
    """Keep `values` for a share of the scans; the others get the value that changes nothing."""
    return torch.where(torch.rand(len(values), generator=generator) < share, values, neutral)


def _random_affine(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Affine maps (B, 2, 3) from output to input positions in the -1..1 coordinates of `grid_sample`."""
    step, turns = (90, 4) if height == width else (180, 2)
    degrees = torch.randint(turns, (count,), generator=generator) * step
    rotation = _uniform(count, -MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES, generator)
    degrees = degrees + _for_some(rotation, ROTATION_SHARE, 0.0, generator)
    angle = degrees * (math.pi / 180)
    zoom = 1 / _for_some(_uniform(count, *SCALE_RANGE, generator), SCALE_SHARE, 1.0, generator)
    flip = torch.randint(2, (count,), generator=generator) * 2 - 1
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    # Rotating in pixels, not in -1..1 units, keeps right angles right when H and W differ.
    rows = torch.stack([cosine * flip, -sine * height / width, sine * flip * width / height, cosine], dim=1)
    return torch.cat([rows.view(count, 2, 2), torch.zeros(count, 2, 1)], dim=2)


def _change_intensity(image: Tensor, generator: torch.Generator) -> Tensor:
    count = image.shape[0]
    contrast = _for_some(_uniform(count, *CONTRAST_RANGE, generator), CONTRAST_SHARE, 1.0, generator)
    brightness = _for_some(_uniform(count, *BRIGHTNESS_RANGE, generator), BRIGHTNESS_SHARE, 0.0, generator)
    factor_B111, shift_B111 = (values.to(image.device).view(-1, 1, 1, 1) for values in (contrast, brightness))
    mean_B111 = image.mean((1, 2, 3), keepdim=True)
    return ((image - mean_B111) * factor_B111 + mean_B111 + shift_B111).clamp(0, 1)
