"""Smooth fields from few control points: uniform cubic B-splines, for any number of axes.

Shapes: B fields, *points control points, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def control_shape(spatial: Sequence[int], spacing: float) -> tuple[int, ...]:
    """How many control points each axis needs: one before it, one at each `spacing` pixels, two beyond its end."""
    return tuple(int((side - 0.5) // spacing) + 4 for side in spatial)


def smooth_field(points_B: Tensor, spatial: Sequence[int], spacing: float) -> Tensor:
    """The field at every pixel.

    Args:
        points_B: (B, *points) as `control_shape` counts them, or with further leading axes.
        spatial: pixels along each axis.
        spacing: pixels between control points.

    Returns:
        float32, (B, *spatial). Nowhere above the largest, nor below the smallest control point.

    Source:
        D. Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 18(8), 1999.
    """
    field = points_B
    for axis, side in enumerate(spatial, start=points_B.ndim - len(spatial)):
        weights = _weights(side, field.shape[axis], spacing).to(field.device)
        field = (field.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return field


def _weights(side: int, points: int, spacing: float) -> Tensor:
    """The share (side, points) of each control point in each pixel; the first point lies one spacing before pixel 0."""
    position = (torch.arange(side) + 0.5) / spacing
    distance = (position[:, None] - (torch.arange(points) - 1)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)
