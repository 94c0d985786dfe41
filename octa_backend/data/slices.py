"""A volume as a picture: its three slices through the middle of what is marked, side by side."""

# Shapes: C channels, D x H x W voxels, R x S pixels of the picture.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import NONZERO_PERCENTILES
from octa_backend.data.volume_geometry import resized

TALLEST = 256
"""Rows of a picture, at most."""


def three_slices(
    image_CDHW: NDArray[Any], mask_DHW: NDArray[np.uint8], spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The axial, coronal and sagittal slice through the centre of the foreground, as a reader of scans knows them.

    The head is up in the coronal and sagittal slice and the front in the axial one; voxels are drawn as high and wide
    as they are.

    Args:
        image_CDHW: as decoded; the first channel is shown.
        mask_DHW: class numbers.
        spacing_mm: sides of a voxel, (D, H, W).

    Returns:
        image (1, R, S) in 0..1 and mask (R, S).
    """
    centre = centre_of(mask_DHW)
    drawn = [
        upright(
            np.moveaxis(image_CDHW[0], axis, 0)[at], np.moveaxis(mask_DHW, axis, 0)[at], sides_across(spacing_mm, axis)
        )
        for axis, at in enumerate(centre)
    ]
    rows = min(TALLEST, max(image.shape[0] for image, _ in drawn))
    images, masks = zip(*(_of_height(image, mask, rows) for image, mask in drawn), strict=True)
    return grey(np.concatenate(images, axis=1), image_CDHW[0])[np.newaxis], np.concatenate(masks, axis=1)


def centre_of(mask_DHW: NDArray[np.uint8]) -> list[int]:
    """For each axis the plane in the middle of the foreground; of the volume where there is none."""
    there = mask_DHW != 0
    centre = []
    for axis, length in enumerate(mask_DHW.shape):
        amount = np.count_nonzero(there, axis=tuple(other for other in range(3) if other != axis)).cumsum()
        centre.append(int(np.searchsorted(amount, amount[-1] / 2)) if amount[-1] else length // 2)
    return centre


def sides_across(spacing_mm: Sequence[float], axis: int) -> tuple[float, float]:
    """Height and width of a voxel in the plane across an axis."""
    rows, columns = (side for other, side in enumerate(spacing_mm) if other != axis)
    return rows, columns


def upright(
    image: NDArray[Any], mask: NDArray[np.uint8], sides_mm: tuple[float, float]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """A slice with square pixels, indices rising upwards."""
    least = min(sides_mm)
    lengths = (round(length * side / least) for length, side in zip(image.shape, sides_mm, strict=True))
    shape = [max(1, min(4 * TALLEST, length)) for length in lengths]
    return resized(image[::-1], shape, order=0), resized(mask[::-1], shape, order=0)


def _of_height(image: NDArray[Any], mask: NDArray[np.uint8], rows: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    shape = (rows, max(1, round(image.shape[1] * rows / image.shape[0])))
    return resized(image, shape, order=0), resized(mask, shape, order=0)


def grey(picture: NDArray[Any], channel_DHW: NDArray[Any]) -> NDArray[np.float32]:
    """0..1 between two percentiles of what lies above the volume's least value."""
    inside = channel_DHW[channel_DHW > channel_DHW.min()]
    if not inside.size:
        return np.zeros(picture.shape, np.float32)
    low, high = np.percentile(inside, NONZERO_PERCENTILES)
    low = min(low, high - 1e-6 * max(1.0, abs(high)))
    grey: NDArray[np.float32] = np.clip((picture.astype(np.float32) - low) / (high - low), 0, 1).astype(np.float32)
    return grey
