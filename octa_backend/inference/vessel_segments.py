"""Vessel segments: the stretches of centre lines between branch and end points, as smooth curves.

Shapes: S segments with P points in all; a point is row and column in pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.vessel_calibre import calibres
from octa_backend.inference.vessel_skeleton import Mask, PixelGraph, pixel_graph

LENGTH_PASSES = 8
"""Passes of `Segments.smoothed` that take the stairs of pixels out of a curve: a Gaussian of 2 pixels."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Curves, one after the other.

    Attributes:
        points: float64, (P, 2).
        offsets: int, (S + 1,): segment s has the points offsets[s] … offsets[s + 1] - 1.
    """

    points: NDArray[np.float64]
    offsets: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def owners(self) -> NDArray[np.intp]:
        """The segment of each point; (P,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First and last point of each segment; (S, 2) each."""
        return self.points[self.offsets[:-1]], self.points[self.offsets[1:] - 1]

    @property
    def steps(self) -> NDArray[np.float64]:
        """Distance of each point to the one before it in its segment, 0 for the first ones; (P,)."""
        steps = np.zeros(len(self.points))
        steps[1:] = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        steps[self.offsets[:-1]] = 0.0
        return steps

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Length along each segment in pixels; (S,)."""
        way = np.append(0.0, np.cumsum(self.steps))
        lengths: NDArray[np.float64] = np.diff(way[self.offsets])
        return lengths

    @property
    def chords(self) -> NDArray[np.float64]:
        """Straight distance between the ends of each segment in pixels, 0 for closed ones; (S,)."""
        first, last = self.ends
        chords: NDArray[np.float64] = np.linalg.norm(last - first, axis=1)
        return chords

    def smoothed(self, passes: int) -> Segments:
        """Average each point with its two neighbours (¼, ½, ¼), several times; the ends stay where they are.

        n passes are a Gaussian with a standard deviation of √(n/2) points. An arc of radius r shrinks by n/(4r²).
        """
        ends = np.concatenate((self.offsets[:-1], self.offsets[1:] - 1))
        points = self.points.copy()
        for _ in range(passes):
            points[1:-1] = (points[:-2] + 2 * points[1:-1] + points[2:]) / 4
            points[ends] = self.points[ends]
        return replace(self, points=points)

    def chosen(self, keep: NDArray[np.bool_]) -> Segments:
        """The segments for which `keep`, (S,), is True."""
        counts = np.diff(self.offsets)[keep]
        return Segments(self.points[keep[self.owners]], np.concatenate(([0], np.cumsum(counts))).astype(np.intp))


def traced(graph: PixelGraph) -> Segments:
    """The segments of a centre line, from branch point to branch point, smoothed by `LENGTH_PASSES`."""
    places = np.concatenate((graph.pixels.astype(np.float64), graph.branch_points))
    beside, curves = _branches_beside(graph), []
    for chain in _chains(graph):
        before, after = ([len(graph.pixels) + one for one in found] for found in _branches_at_ends(beside, chain))
        curves.append([*before, *chain, *after])
    offsets = np.cumsum([0, *map(len, curves)], dtype=np.intp)
    points = places[np.fromiter(itertools.chain.from_iterable(curves), dtype=np.intp)]
    return Segments(points, offsets).smoothed(LENGTH_PASSES)


def without_spurs(skeleton: Mask, distance: NDArray[np.float64]) -> Mask:
    """Remove the twigs that a bumpy outline leaves on a centre line.

    A twig is a stretch from a branch point to a free end that is no longer than the vessel's calibre at the branch, so
    that it ends within half a calibre of the vessel's edge.

    Args:
        skeleton: bool, (H, W).
        distance: (2H, 2W), see `edge_distance`.
    """
    graph = pixel_graph(skeleton)
    inside = graph.branches >= 0
    widest = np.zeros(graph.branches.max(initial=-1) + 1)
    np.maximum.at(widest, graph.branches[inside], calibres(distance, graph.pixels[inside]))
    beside, spurs = _branches_beside(graph), list[int]()
    for chain in _chains(graph):
        before, after = _branches_at_ends(beside, chain)
        if len(before) + len(after) == 1 and len(chain) <= widest[(before + after)[0]]:
            spurs += chain
    kept = skeleton.copy()
    kept[tuple(graph.pixels[spurs].T)] = False
    return kept


def _chains(graph: PixelGraph) -> list[list[int]]:
    """The numbers of the pixels outside branch points, in their order along the vessel; a ring ends where it began."""
    plain = graph.branches < 0
    numbers = np.where((graph.links >= 0) & plain[graph.links], graph.links, -1)
    onward = _first_two(numbers)  # outside branch points there are no more
    rings_last = np.argsort([other >= 0 for _, other in onward], kind="stable").tolist()
    seen = [*(~plain).tolist(), True]  # number -1, no pixel, counts as seen
    chains = []
    for start in rings_last:
        if not seen[start]:
            chain = _follow(start, onward, seen)
            closed = len(chain) > 2 and start in onward[chain[-1]]
            chains.append([*chain, start] if closed else chain)
    return chains


def _follow(start: int, onward: list[list[int]], seen: list[bool]) -> list[int]:
    """Go on from pixel to pixel until there is none that was not seen."""
    chain, pixel = [start], start
    seen[start] = True
    while True:
        one, other = onward[pixel]
        pixel = other if seen[one] else one
        if seen[pixel]:
            return chain
        seen[pixel] = True
        chain.append(pixel)


def _branches_at_ends(beside: list[list[int]], chain: list[int]) -> tuple[list[int], list[int]]:
    """Numbers of the branch points before the first and after the last pixel: none or one each."""
    first, last = ([branch for branch in beside[pixel] if branch >= 0] for pixel in (chain[0], chain[-1]))
    return (first[:1], first[1:2]) if len(chain) == 1 else (first[:1], last[:1])


def _branches_beside(graph: PixelGraph) -> list[list[int]]:
    """For each pixel the numbers of two branch points that it is linked to, -1 where there is none."""
    return _first_two(np.where(graph.links >= 0, graph.branches[graph.links], -1))


def _first_two(numbers: NDArray[np.intp]) -> list[list[int]]:
    """Of each row, (N, 8), the first two numbers that are not -1."""
    there_first = np.argsort(numbers < 0, axis=1, kind="stable")[:, :2]
    two: list[list[int]] = np.take_along_axis(numbers, there_first, axis=1).tolist()
    return two
