"""How masks lie on their images: whether their structures follow the images', and where they would follow better."""

# Shapes: N scans of equal size, H x W pixels or cells of the reduced grid; F x G frequencies of its real Fourier
# transform; K squares along a side.

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from octa_backend.data.details import LOCAL_CONTRAST, band
from octa_backend.data.greys import box_reduced

GRID_SIDE, FINE_GRID_SIDE = 128, 192
"""The longer side of the grid on which image and mask are compared is at most so many cells: of the first where the
mask lies best as it is, which is usual and quick; else of the second, on which a shift of few pixels shows."""

OFFSET_GRID_SIDE = 512
"""Likewise where parts of a pixel count: most scans are compared pixel by pixel."""

FINE_SIGMA, COARSE_SIGMA = 0.7, 5.0
"""Cells: structures between these two widths are compared (a difference of Gaussians), neither noise nor lighting."""

LIGHTING_CELLS, CONTRAST_CELLS = 8, 12
"""Sides of the squares whose means are taken for the image's lighting and for its contrast, which is evened so that the
border of a fundus photograph does not outweigh its vessels. Spread linearly, means of squares of c cells smooth like a
Gaussian of c / 2 cells."""

FARTHEST_SHARE = 0.125
"""Shifts are sought up to this share of each side."""

LEAST_SIDE = 8
"""Cells: of a shorter side that share is less than a cell, so very elongated scans are not compared."""

NO_STRUCTURE = 1e-6
"""Correlations that spread less are rounding: image or mask has nothing of the compared widths."""


class Alignment(NamedTuple):
    """How well mask and image agree.

    Attributes:
        agreement: correlation of the band-passed mask with the band-passed image as they lie, over the spread of the
            correlations at all shifts; of the order of 1 for a mask that has nothing to do with the image. Negative
            where the best shift agrees with the opposite sign.
        best: the same at the best shift, between the cells of the grid, never negative; where mask and image lie right,
            the agreement.
        offset: (rows, columns), in pixels and parts of them, by which the mask lies too far down and to the right.
    """

    agreement: float
    best: float
    offset: tuple[float, float]

    @property
    def shift(self) -> tuple[int, int]:
        """(rows, columns), in whole pixels, by which the mask should move."""
        return -round(self.offset[0]), -round(self.offset[1])


UNALIGNED = Alignment(0.0, 0.0, (0.0, 0.0))
"""Of what cannot be judged."""


def align(grey_NHW: NDArray[np.uint8], inside_NHW: NDArray[np.bool_]) -> list[Alignment]:
    """Compare masks with their images, as they lie and shifted.

    Args:
        grey_NHW: the images.
        inside_NHW: their foregrounds, of the same sizes.

    Returns:
        One for each scan; all zero where image or mask has no structure of the compared widths, or a side is too short.
    """
    factor, fine_factor = (-(-max(grey_NHW.shape[1:]) // side) for side in (GRID_SIDE, FINE_GRID_SIDE))
    if min(grey_NHW.shape[1:]) // factor < LEAST_SIDE:
        return [UNALIGNED] * len(grey_NHW)
    found = _aligned(grey_NHW, inside_NHW, factor)
    shifted = [n for n, alignment in enumerate(found) if any(alignment.shift)]
    if shifted and fine_factor < factor:
        for n, alignment in zip(shifted, _aligned(grey_NHW[shifted], inside_NHW[shifted], fine_factor), strict=True):
            found[n] = alignment
    return found


def offset_of(grey_HW: NDArray[np.uint8], inside_HW: NDArray[np.bool_]) -> tuple[float, float] | None:
    """How far one mask lies beside what it shows, to parts of a pixel.

    Args:
        grey_HW: the image.
        inside_HW: its foreground.

    Returns:
        (rows, columns), positive where the mask lies too far down and to the right; parts of a pixel, read off a
        parabola, come out up to a third too small. None where that cannot be judged, see `align`.
    """
    factor = -(-max(grey_HW.shape) // OFFSET_GRID_SIDE)
    if min(grey_HW.shape) // factor < LEAST_SIDE:
        return None
    found = _aligned(grey_HW[None], inside_HW[None], factor)[0]
    return None if found is UNALIGNED else found.offset


def _aligned(grey_NHW: NDArray[np.uint8], inside_NHW: NDArray[np.bool_], factor: int) -> list[Alignment]:
    image_NHW, mask_NHW = _cropped(box_reduced(grey_NHW, factor)), _cropped(box_reduced(inside_NHW, factor))
    height, width = image_NHW.shape[1:]
    cross_NFG = fft.rfft2(_evened_details(image_NHW))
    cross_NFG *= fft.rfft2(mask_NHW).conj()
    cross_NFG *= band(height, width, FINE_SIGMA, COARSE_SIGMA)
    correlation_NHW: NDArray[np.float32] = fft.irfft2(cross_NFG, s=(height, width))
    spread_N = correlation_NHW.std(axis=(1, 2))
    return [
        _read_off(correlation_HW, float(spread), peak, factor)
        for correlation_HW, spread, peak in zip(correlation_NHW, spread_N, _peaks(correlation_NHW), strict=True)
    ]


def _read_off(correlation_HW: NDArray[np.float32], spread: float, peak: tuple[int, int], factor: int) -> Alignment:
    if not spread > NO_STRUCTURE:
        return UNALIGNED
    row, column = peak
    sign = 1.0 if correlation_HW[row, column] > 0 else -1.0
    (down, rise), (right, further_rise) = _summit(correlation_HW[:, column], row), _summit(correlation_HW[row], column)
    at_zero = float(correlation_HW[0, 0])
    found = Alignment(sign * at_zero / spread, sign * at_zero / spread, (-factor * down, -factor * right))
    if not any(found.shift):
        return found
    return found._replace(best=sign * (float(correlation_HW[row, column]) + rise + further_rise) / spread)


def _evened_details(images_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """What differs from the lighting around it, over the contrast around it (see `details.evened_details`).

    Means of squares, spread over them again, stand for Gaussians here: two small matrix products instead of two
    transforms each, and opposite borders do not mix.
    """
    details_NHW = images_NHW - images_NHW[:, :1, :1]  # so that a constant image is 0, without rounding
    details_NHW -= _around(details_NHW, LIGHTING_CELLS)
    energy_NHW = details_NHW * details_NHW
    whole_N11 = np.sqrt(energy_NHW.mean(axis=(1, 2), keepdims=True))
    contrast_NHW = _around(energy_NHW, CONTRAST_CELLS)
    np.sqrt(contrast_NHW, out=contrast_NHW)
    contrast_NHW += np.maximum(np.float32(LOCAL_CONTRAST) * whole_N11, np.float32(1e-3))
    details_NHW /= contrast_NHW
    return details_NHW


def _around(planes_NHW: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Means over squares of so many cells, spread linearly between their middles."""
    (gather_KH, spread_HK), (gather_KW, spread_WK) = (_squares(length, cells) for length in planes_NHW.shape[1:])
    means_NKK = gather_KH @ (planes_NHW @ gather_KW.T)
    around_NHW: NDArray[np.float32] = (spread_HK @ means_NKK) @ spread_WK.T
    return around_NHW


@lru_cache(maxsize=32)
def _squares(length: int, cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Along one side: the matrix that takes the squares' means, (K, length), and that which spreads them, (length, K).

    The last square has fewer cells where the side is no multiple. Before the first and behind the last middle the mean
    stays the same.
    """
    at = np.arange(length)
    inside_KL = at // cells == np.arange(-(-length // cells))[:, None]
    gather_KL = inside_KL / inside_KL.sum(axis=1, keepdims=True)
    middles_K = gather_KL @ at
    spread_LK = np.stack([np.interp(at, middles_K, unit) for unit in np.eye(len(middles_K))], axis=1)
    return gather_KL.astype(np.float32), spread_LK.astype(np.float32)


def _peaks(correlation_NHW: NDArray[np.floating[Any]]) -> list[tuple[int, int]]:
    """Where each correlation is strongest among the shifts that are sought."""
    rows, columns = (_near(length) for length in correlation_NHW.shape[1:])
    near_NP = np.abs(correlation_NHW[:, rows[:, None], columns]).reshape(len(correlation_NHW), -1)
    places = near_NP.argmax(axis=1).tolist()
    return [(int(rows[at // len(columns)]), int(columns[at % len(columns)])) for at in places]


def _near(length: int) -> NDArray[np.intp]:
    """Indices of the shifts that are sought along an axis: 0, 1, …, -2, -1."""
    farthest = int(length * FARTHEST_SHARE)
    return np.concatenate([np.arange(farthest + 1), np.arange(length - farthest, length)])


def _summit(line: NDArray[np.floating[Any]], at: int) -> tuple[float, float]:
    """Top of the parabola through a peak and its two neighbours on a circular line: as a signed shift in cells, and how
    far it stands out beyond the peak.
    """
    length = len(line)
    before, peak, after = float(line[at - 1]), float(line[at]), float(line[(at + 1) % length])
    curvature = before - 2 * peak + after
    offset = max(-0.5, min(0.5, (before - after) / (2 * curvature))) if curvature else 0.0
    rise = offset * (after - before) / 2 + offset**2 * curvature / 2
    return (at if at <= length // 2 else at - length) + offset, rise


def _cropped(planes_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """To the next smaller sides whose transforms are quick."""
    height, width = (fft.prev_fast_len(side, real=True) for side in planes_NHW.shape[1:])
    return np.ascontiguousarray(planes_NHW[:, :height, :width])
