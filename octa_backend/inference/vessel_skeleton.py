"""Centre lines of vessels as a graph of pixels: which ones are linked, where vessels branch and end.

Shapes: (H, W) pixels; N pixels of the centre line, each with up to 8 neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from octa_backend.inference.vessel_calibre import calibres

Mask = NDArray[np.bool_]

AROUND = np.array([[-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-1, -1]])
"""Row and column of the 8 neighbours: north, then clockwise; sides at even places, diagonals at odd ones."""

_DIAGONALS_TOO = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class PixelGraph:
    """The pixels of a centre line and their links.

    Attributes:
        pixels: int, (N, 2), row and column.
        links: int, (N, 8), numbers of the linked pixels in the order of `AROUND`, -1 where there is none.
        branches: int, (N,), number of the branch point that a pixel belongs to, -1 for none.
    """

    pixels: NDArray[np.intp]
    links: NDArray[np.intp]
    branches: NDArray[np.intp]

    @property
    def degrees(self) -> NDArray[np.intp]:
        """To how many pixels each one is linked; (N,)."""
        degrees: NDArray[np.intp] = (self.links >= 0).sum(axis=1)
        return degrees

    @property
    def branch_points(self) -> NDArray[np.float64]:
        """Row and column of each branch point, the mean of its pixels; (B, 2)."""
        inside = self.branches >= 0
        number = self.branches[inside]
        counts = np.bincount(number)
        sums = [np.bincount(number, weights=axis) for axis in self.pixels[inside].T]
        return np.stack([total / counts for total in sums], axis=1)


def pixel_graph(skeleton: Mask) -> PixelGraph:
    """Link the pixels of a centre line.

    Neighbours are linked over sides, and over corners where no third pixel already joins the two, so that the corner
    of a staircase is no branch. Pixels with three links or more that touch are one branch point.
    """
    pixels = np.argwhere(skeleton)
    links = _links(skeleton, pixels)
    branching = np.zeros_like(skeleton)
    branching[tuple(pixels[(links >= 0).sum(axis=1) > 2].T)] = True
    clusters, _ = label(branching, structure=_DIAGONALS_TOO)
    return PixelGraph(pixels, links, clusters[tuple(pixels.T)].astype(np.intp) - 1)


def end_points(graph: PixelGraph, distance: NDArray[np.float64]) -> NDArray[np.intp]:
    """Row and column of each pixel where a vessel ends inside the picture; (E, 2).

    A vessel that is no further from the border than its own calibre goes on outside, and does not end there.

    Args:
        graph: of the centre line.
        distance: (2H, 2W), see `edge_distance`.
    """
    ends = graph.pixels[graph.degrees == 1]
    last = np.array(distance.shape) // 2 - 1
    to_border = np.minimum(ends, last - ends).min(axis=1, initial=int(last.max()))
    inside: NDArray[np.intp] = ends[to_border > calibres(distance, ends)]
    return inside


def _links(skeleton: Mask, pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    number = np.full(np.add(skeleton.shape, 2), -1, dtype=np.intp)
    number[1:-1, 1:-1][skeleton] = np.arange(len(pixels))
    places = pixels[:, None] + 1 + AROUND
    links: NDArray[np.intp] = number[places[..., 0], places[..., 1]]
    sides = links[:, ::2] >= 0
    joined = sides | np.roll(sides, -1, axis=1)  # by the side before or after each diagonal
    links[:, 1::2][joined] = -1
    return links
