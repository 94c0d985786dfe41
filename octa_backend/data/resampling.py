"""Volumes brought to voxels of another size; `volume_geometry.restore` goes back."""

# Shapes: C channels, D x H x W voxels.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.volume_files import Volume
from octa_backend.data.volume_geometry import resized

Spline = Literal["linear", "cubic"]
_ORDERS = {"linear": 1, "cubic": 3}

SAME_SPACING = 0.01
"""Sides that differ by this share are taken for equal."""

NEXT_TO_NONE = 1e-6
"""A linear spline's rounding: a smaller share of a neighbour is none."""


def same_spacing(spacing_mm: Sequence[float], wanted_mm: Sequence[float]) -> bool:
    """Whether voxels have a wanted size already."""
    return all(abs(side / other - 1) <= SAME_SPACING for side, other in zip(spacing_mm, wanted_mm, strict=True))


def target_shape(shape: Sequence[int], spacing_mm: Sequence[float], wanted_mm: Sequence[float]) -> tuple[int, int, int]:
    """How many voxels of a wanted size a volume has: (D, H, W), each at least 1."""
    sides = zip(shape, spacing_mm, wanted_mm, strict=True)
    depth, height, width = (max(1, round(length * side / wanted)) for length, side, wanted in sides)
    return depth, height, width


def resample(volume: Volume, wanted_mm: Sequence[float], spline: Spline = "cubic") -> Volume:
    """Bring an image to voxels of about a wanted size; its outer faces stay where they are.

    Args:
        volume: values (C, D, H, W), uint8, uint16 or float32.
        wanted_mm: sides of a voxel, (D, H, W). Sides that hold no whole number of them get the nearest that do.
        spline: what is interpolated with; the values stay within the range that they had, and empty space empty.

    Returns:
        The same dtype, with the affine, spacing and geometry of the new voxels.
    """
    values = resample_values(volume.values, volume.spacing_mm, wanted_mm, spline)
    return _at(volume, values, values.shape[1:])


def resample_values(
    values_CDHW: NDArray[Any], spacing_mm: Sequence[float], wanted_mm: Sequence[float], spline: Spline = "cubic"
) -> NDArray[Any]:
    """The same of an image's voxels alone."""
    shape = target_shape(values_CDHW.shape[1:], spacing_mm, wanted_mm)
    return np.stack([_interpolated(channel, shape, _ORDERS[spline]) for channel in values_CDHW])


def resample_mask(volume: Volume, wanted_mm: Sequence[float]) -> Volume:
    """As `resample`, for a mask (D, H, W) of whole numbers: every voxel takes the value of the nearest one."""
    shape = target_shape(volume.values.shape, volume.spacing_mm, wanted_mm)
    return _at(volume, resized(volume.values, shape, order=0), shape)


def _interpolated(channel_DHW: NDArray[Any], shape: Sequence[int], order: int) -> NDArray[Any]:
    real = resized(channel_DHW.astype(np.float32), shape, order)
    real = np.clip(real, channel_DHW.min(), channel_DHW.max())
    for empty in {channel_DHW.dtype.type(0), channel_DHW.min()}:
        real[_far_from(channel_DHW != empty, shape)] = empty
    rounded = np.rint(real) if channel_DHW.dtype.kind == "u" else real
    values: NDArray[Any] = rounded.astype(channel_DHW.dtype)
    return values


def _far_from(there_DHW: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Which of the new voxels have none of these for a neighbour. A cubic spline rings far beyond neighbours."""
    if there_DHW.all():
        return np.zeros(shape, dtype=bool)
    far: NDArray[np.bool_] = resized(there_DHW.astype(np.float32), shape, order=1) < NEXT_TO_NONE
    return far


def _at(volume: Volume, values: NDArray[Any], shape: tuple[int, ...]) -> Volume:
    factors = [length / wanted for length, wanted in zip(volume.values.shape[-3:], shape, strict=True)]
    spacing = tuple(side * factor for side, factor in zip(volume.spacing_mm, factors, strict=True))
    moved = np.eye(4)  # of indices (x, y, z): the centre of the first voxel moves with its size
    for axis, factor in enumerate(factors[::-1]):
        moved[axis, axis], moved[axis, 3] = factor, (factor - 1) / 2
    return replace(
        volume,
        values=values,
        affine=volume.affine @ moved,
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        geometry=volume.geometry.resampled(shape, spacing),
    )
