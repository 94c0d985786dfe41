"""How a mask lies on its image: whether its structures follow the image's, and where they would follow them better."""

# Shapes: H x W pixels of the reduced grid; F x G frequencies of its real Fourier transform.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from PIL import Image
from scipy import fft

from octa_backend.data.details import LOCAL_CONTRAST, band
from octa_backend.data.greys import box_reduced

GRID_SIDE = 128
"""The longer side of the grid on which image and mask are compared is at most so many cells."""

FINE_SIGMA, COARSE_SIGMA = 0.7, 5.0
"""Cells: structures between these two widths are compared (a difference of Gaussians), neither noise nor lighting."""

LIGHTING_CELLS, CONTRAST_CELLS = 8, 12
"""Sides of the squares whose means are taken for the image's lighting and for its contrast, which is evened so that the
border of a fundus photograph does not outweigh its vessels."""

FARTHEST_SHARE = 0.125
"""Shifts are sought up to this share of each side."""

NO_STRUCTURE = 1e-6
"""Correlations that spread less are rounding: image or mask has nothing of the compared widths."""


class Alignment(NamedTuple):
    """How well mask and image agree.

    Attributes:
        agreement: correlation of the band-passed mask with the band-passed image as they lie, over the spread of the
            correlations at all shifts; of the order of 1 for a mask that has nothing to do with the image. Negative
            where the best shift agrees with the opposite sign.
        best: the same at the best shift, never negative.
        shift: (rows, columns), in pixels, by which the mask should move.
    """

    agreement: float
    best: float
    shift: tuple[int, int]


def align(grey_HW: NDArray[np.uint8], inside_HW: NDArray[np.bool_]) -> Alignment:
    """Compare a mask with its image, as it lies and shifted.

    Args:
        grey_HW: the image.
        inside_HW: the foreground, of the same size.

    Returns:
        All zero where image or mask has no structure of the compared widths.
    """
    factor = -(-max(grey_HW.shape) // GRID_SIDE)
    image_HW, mask_HW = _cropped(box_reduced(grey_HW, factor)), _cropped(box_reduced(inside_HW, factor))
    height, width = image_HW.shape
    cross_FG = fft.rfft2(_evened_details(image_HW))
    cross_FG *= fft.rfft2(mask_HW).conj()
    cross_FG *= band(height, width, FINE_SIGMA, COARSE_SIGMA)
    correlation_HW: NDArray[np.float32] = fft.irfft2(cross_FG, s=(height, width))
    spread = float(correlation_HW.std())
    if not spread > NO_STRUCTURE:
        return Alignment(0.0, 0.0, (0, 0))
    row, column = _peak(np.abs(correlation_HW))
    sign = 1.0 if correlation_HW[row, column] > 0 else -1.0
    shift = (
        round(factor * _summit(correlation_HW[:, column], row)),
        round(factor * _summit(correlation_HW[row], column)),
    )
    at_zero, at_best = float(correlation_HW[0, 0]), float(correlation_HW[row, column])
    return Alignment(sign * at_zero / spread, sign * at_best / spread, shift)


def _evened_details(image_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """What differs from the lighting around it, over the contrast around it (see `details.evened_details`).

    Means of squares, spread smoothly, stand for Gaussians here: one pass over the plane instead of two transforms each.
    """
    details_HW = image_HW - _around(image_HW, LIGHTING_CELLS)
    energy_HW = details_HW * details_HW
    whole = float(energy_HW.mean()) ** 0.5
    contrast_HW = np.sqrt(np.maximum(_around(energy_HW, CONTRAST_CELLS), 0))
    contrast_HW += np.float32(max(LOCAL_CONTRAST * whole, 1e-3))
    details_HW /= contrast_HW
    return details_HW


def _around(plane_HW: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Means over squares of so many cells, spread over the plane again."""
    height, width = plane_HW.shape
    means = Image.fromarray(plane_HW).reduce(cells)
    return np.asarray(means.resize((width, height), Image.Resampling.BICUBIC))


def _peak(correlation_HW: NDArray[np.floating[Any]]) -> tuple[int, int]:
    """Where the correlation is largest among the shifts that are sought."""
    rows, columns = (_near(length) for length in correlation_HW.shape)
    near = correlation_HW[rows[:, None], columns]
    at = int(near.argmax())
    return int(rows[at // len(columns)]), int(columns[at % len(columns)])


def _near(length: int) -> NDArray[np.intp]:
    """Indices of the shifts that are sought along an axis: 0, 1, …, -2, -1."""
    farthest = max(1, int(length * FARTHEST_SHARE))
    return np.concatenate([np.arange(farthest + 1), np.arange(length - farthest, length)])


def _summit(line: NDArray[np.floating[Any]], at: int) -> float:
    """Top of the parabola through a peak and its two neighbours on a circular line, as a signed shift in cells."""
    length = len(line)
    before, peak, after = float(line[at - 1]), float(line[at]), float(line[(at + 1) % length])
    curvature = before - 2 * peak + after
    offset = (before - after) / (2 * curvature) if curvature else 0.0
    return (at if at <= length // 2 else at - length) + max(-0.5, min(0.5, offset))


def _cropped(plane_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sides that are multiples of 4, whose transforms are quick."""
    height, width = plane_HW.shape
    return np.ascontiguousarray(plane_HW[: height // 4 * 4, : width // 4 * 4])
