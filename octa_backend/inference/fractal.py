"""How densely a pattern fills the plane: its fractal dimension by counting boxes.

Shapes: (H, W) pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.measurement import NotMeasurable

BOX_SIDES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Sides of boxes in pixels, about evenly spaced on a logarithmic scale."""

BOXES_ACROSS = 4
"""The largest boxes of a fit still go so often into the picture's shorter side."""

LEAST_SIZES = 4  # of boxes; a line through fewer points says little


@dataclass(frozen=True, slots=True)
class BoxCount:
    """A fitted dimension, and R² of the fit (1 where all counts are the same, as those of a point)."""

    dimension: float
    r_squared: float


def box_count(mask: NDArray[np.bool_]) -> BoxCount:
    """The box-counting dimension: the slope of log(boxes that hold a foreground pixel) over log(1 / side).

    Args:
        mask: bool, (H, W).

    Returns:
        The dimension, near 0 for a point, near 1 for a line and 2 for a filled plane, from a least-squares line.

    Raises:
        NotMeasurable: the mask is empty, or smaller than 24 pixels a side.

    Source:
        B. R. Masters, Fractal analysis of the vascular tree in the human retina, Annu. Rev. Biomed. Eng. 6, 2004.
    """
    if not mask.any():
        raise NotMeasurable("no_vessel")
    sides = [side for side in BOX_SIDES if side * BOXES_ACROSS <= min(mask.shape)]
    if len(sides) < LEAST_SIZES:
        raise NotMeasurable("too_small")
    table = np.zeros(np.add(mask.shape, 1), dtype=np.int64)  # foreground pixels above and left of each corner
    table[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    counts = [_boxes(table, side) for side in sides]
    return _fitted(-np.log(sides), np.log(counts))


def _boxes(table: NDArray[np.int64], side: int) -> float:
    """How many boxes it takes to cover the pattern.

    The share of boxes that hold a foreground pixel, times the boxes that the picture's area is worth. Only boxes that
    lie in the picture as a whole are looked at, of four grids, one from each corner: a cut box would count too much.

    Args:
        table: (H + 1, W + 1), the summed area of the mask.
        side: of a box, pixels.
    """
    height, width = (length - 1 for length in table.shape)
    rows, columns = height // side, width // side
    held = 0
    for top in (0, height - rows * side):
        for left in (0, width - columns * side):
            corners = table[top::side, left::side][: rows + 1, : columns + 1]
            held += int(np.count_nonzero(np.diff(np.diff(corners, axis=0), axis=1)))
    share = held / (4 * rows * columns)
    return float(share * height * width / side**2)


def _fitted(x: NDArray[np.float64], y: NDArray[np.float64]) -> BoxCount:
    x_off, y_off = x - x.mean(), y - y.mean()
    slope = float(x_off @ y_off / (x_off @ x_off))
    spread = float(y_off @ y_off)
    if spread == 0:
        return BoxCount(0.0, 1.0)
    residual = y_off - slope * x_off
    return BoxCount(max(0.0, slope), 1 - float(residual @ residual) / spread)
