"""A volume with its mask laid over, as pictures: the slice through the middle of what was found, and the projection.

Shapes: C channels, D x H x W voxels, R x S pixels of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.slices import centre_of, grey, sides_across, upright
from octa_backend.inference.pictures import overlay

PLANES = ("axial", "coronal", "sagittal")
"""Across D, H and W."""


@dataclass(frozen=True, slots=True)
class PlaneOverlay:
    """One plane's pictures, uint8 (R, S, 3).

    Attributes:
        plane: one of `PLANES`.
        index: of the slice along its axis, in our orientation (from the feet, the back or the left).
        slice: image and mask there.
        projection: the brightest of the image along the axis, and the mask's highest class.
    """

    plane: str
    index: int
    slice: NDArray[np.uint8]
    projection: NDArray[np.uint8]


def plane_overlays(
    image_CDHW: NDArray[Any],
    mask_DHW: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    classes: int,
    colours: Sequence[str] = (),
) -> list[PlaneOverlay]:
    """Draw the three planes; the head is up in the coronal and sagittal one, the front in the axial one.

    Args:
        image_CDHW: as decoded; the first channel is shown.
        mask_DHW: class numbers.
        spacing_mm: sides of a voxel, (D, H, W).
        classes: with background.
        colours: "#rrggbb" of class 1, 2, ….
    """
    channel = image_CDHW[0]
    drawn = []
    for axis, (plane, at) in enumerate(zip(PLANES, centre_of(mask_DHW), strict=True)):
        sides = sides_across(spacing_mm, axis)
        pairs = (
            upright(channel.take(at, axis=axis), np.take(mask_DHW, at, axis=axis), sides),
            upright(channel.max(axis=axis), mask_DHW.max(axis=axis), sides),
        )
        pictures = [
            overlay(grey(image, channel)[np.newaxis], np.ascontiguousarray(mask), classes, colours)
            for image, mask in pairs
        ]
        drawn.append(PlaneOverlay(plane, at, *pictures))
    return drawn
