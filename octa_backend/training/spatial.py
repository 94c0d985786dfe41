"""Where each pixel of an augmented scan comes from: flips, turns, rotation, scale, shifts and deformation in one grid.

Shapes: B scans, *spatial: (H, W) pixels or (D, H, W) voxels, n of them. Positions run along x, y(, z), the last axis
first, from -1 to 1 between the outer edges of a scan, as `grid_sample` has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from octa_backend.training.augmentation_options import Augmentation
from octa_backend.training.draws import chosen, signs, sometimes, uniform
from octa_backend.training.splines import control_shape, smooth_field


def random_affine(
    count: int,
    spatial: Sequence[int],
    options: Augmentation,
    generator: torch.Generator,
    spacing: Sequence[float] = (),
) -> Tensor:
    """Maps (B, n, n + 1) from positions in the augmented scan to positions in the given one.

    Angles lie within the last two axes: slices of a volume are often farther apart than its pixels, and turning out of
    their plane would stretch what it shows.

    Args:
        count: scans.
        spatial: pixels along each axis.
        options: how often and how far.
        generator: of the CPU.
        spacing: sides of a pixel along each axis, so that what is turned keeps its form; empty: all alike.
    """
    extents = [side * length for side, length in zip(spatial, spacing or [1.0] * len(spatial), strict=True)]
    angle = _degrees(count, extents, options, generator) * (math.pi / 180)
    bounds = (options.scale_min, options.scale_max)
    zoom = 1 / sometimes(count, options.scale_probability, bounds, 1.0, generator)
    flip_x = signs(count, options.flip_x_probability, generator)
    flip_y = signs(count, options.flip_y_probability, generator)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    axes = len(spatial)
    matrix = torch.zeros(count, axes, axes)
    matrix[:, 0, 0], matrix[:, 0, 1] = cosine * flip_x, -sine * flip_y
    matrix[:, 1, 0], matrix[:, 1, 1] = sine * flip_x, cosine * flip_y
    if axes == 3:
        matrix[:, 2, 2] = zoom * signs(count, options.flip_z_probability, generator)
    # Rotating in lengths, not in -1..1 units, keeps right angles right where the sides differ.
    sides = torch.tensor(extents[::-1], dtype=torch.float32)
    shift = _translation(count, axes, options, generator)
    return torch.cat([matrix * (sides / sides[:, None]), shift[:, :, None]], dim=2)


def _degrees(count: int, extents: Sequence[float], options: Augmentation, generator: torch.Generator) -> Tensor:
    step, turns = (90, 4) if math.isclose(extents[-1], extents[-2]) else (180, 2)
    degrees = torch.zeros(count)
    if options.turn_probability > 0:
        degrees = torch.randint(turns, (count,), generator=generator) * float(step)
    if 0 < options.turn_probability < 1:
        degrees = torch.where(chosen(count, options.turn_probability, generator), degrees, 0.0)
    bounds = (-options.rotation_degrees, options.rotation_degrees)
    return degrees + sometimes(count, options.rotation_probability, bounds, 0.0, generator)


def _translation(count: int, axes: int, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Ways (B, n), of scans 2 long."""
    if options.translation_probability == 0:
        return torch.zeros(count, axes)
    ways = 2 * uniform(count * axes, -options.translation_fraction, options.translation_fraction, generator)
    moved = chosen(count, options.translation_probability, generator)
    return torch.where(moved[:, None], ways.view(count, axes), 0.0)


def random_deformation(
    count: int, spatial: Sequence[int], options: Augmentation, generator: torch.Generator, device: torch.device
) -> Tensor | None:
    """Smooth shifts (B, *spatial, n) in pixels along x, y(, z); None where no scan is deformed.

    No shift is larger than `elastic_shift` along an axis, and no two pixels come from one place.

    Source:
        O. Ronneberger et al., U-Net, 2015 (arXiv:1505.04597): random shifts on a coarse grid, interpolated smoothly.
        Here they are uniform, not Gaussian, so that they have a bound, and cubic B-splines interpolate them.
    """
    deformed = chosen(count, options.elastic_probability, generator)
    if not deformed.any():
        return None
    axes = len(spatial)
    shape = (int(deformed.sum()), axes, *control_shape(spatial, options.elastic_spacing))
    points = (2 * torch.rand(shape, generator=generator) - 1) * options.elastic_shift
    shifts = torch.zeros(count, axes, *spatial, device=device)
    shifts[deformed.to(device)] = smooth_field(points.to(device), spatial, options.elastic_spacing)
    return shifts.movedim(1, -1)


def sampling_grid(affine: Tensor, spatial: Sequence[int], shifts: Tensor | None) -> Tensor:
    """Positions (B, *spatial, n) for `grid_sample`.

    Args:
        affine: (B, n, n + 1), see `random_affine`.
        spatial: pixels along each axis.
        shifts: (B, *spatial, n) in pixels of the augmented scan, along x, y(, z): each pixel shows what would without
            them lie so far away.
    """
    grid = F.affine_grid(affine, [affine.shape[0], 1, *spatial], align_corners=False)
    if shifts is None:
        return grid
    sides = torch.tensor(spatial[::-1], dtype=shifts.dtype, device=shifts.device)
    moved = (shifts * (2 / sides)).flatten(1, -2) @ affine[:, :, :-1].transpose(1, 2)
    return grid + moved.view(grid.shape)
