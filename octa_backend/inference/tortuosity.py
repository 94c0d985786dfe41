"""How winding vessel segments are.

Shapes: S segments with P points in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.measurement import NotMeasurable
from octa_backend.inference.vessel_segments import LENGTH_PASSES, Segments

LEAST_LENGTH = 10.0
"""Pixels. What is shorter has no shape that pixels can show."""

CURVATURE_PASSES = 32
"""Smoothing before curvature is taken: a Gaussian of 4 pixels. Less lets the stairs of pixels through."""

LEAST_TURN = np.radians(10.0)
"""A bend that turns by less is taken for noise: the stairs of pixels turn by up to 6° after the smoothing."""


@dataclass(frozen=True, slots=True)
class Tortuosity:
    """Numbers of each segment; (S,) each.

    Attributes:
        segments: those that could be measured.
        arc_chord: length along the segment over the straight distance of its ends; 1 for a straight one.
        curvature: mean absolute curvature, 1/px.
        density: of Grisan, 1/px; 0 without a change of the bend's direction.
    """

    segments: Segments
    arc_chord: NDArray[np.float64]
    curvature: NDArray[np.float64]
    density: NDArray[np.float64]


def tortuosity(segments: Segments) -> Tortuosity:
    """Measure the segments that have two ends and at least `LEAST_LENGTH` pixels; the others are left out.

    Raises:
        NotMeasurable: there is none.

    Source:
        Arc over chord: W. Lotmar, A. Freiburghaus, D. Bracher, Measurement of vessel tortuosity on fundus photographs,
        Graefe's Arch. 211, 1979. Curvature: W. E. Hart et al., Measurement and classification of retinal vascular
        tortuosity, Int. J. Med. Inform. 53, 1999. Density: see `_density`.
    """
    measured = segments.chosen((segments.lengths >= LEAST_LENGTH) & (segments.chords > 1))
    if not len(measured):
        raise NotMeasurable("no_long_segment")
    smooth = measured.smoothed(CURVATURE_PASSES - LENGTH_PASSES)
    turns = _turns(smooth)
    total_turn = np.bincount(smooth.owners, weights=np.abs(turns), minlength=len(smooth))
    return Tortuosity(
        segments=measured,
        arc_chord=measured.lengths / measured.chords,
        curvature=total_turn / np.maximum(smooth.lengths, 1),
        density=_density(measured, _inflections(smooth, turns)),
    )


def _turns(segments: Segments) -> NDArray[np.float64]:
    """By which angle a segment turns at each point, in radians, 0 at its ends; (P,)."""
    turns = np.zeros(len(segments.points))
    ahead = np.diff(segments.points, axis=0)
    before, after = ahead[:-1], ahead[1:]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turns[1:-1] = np.arctan2(cross, (before * after).sum(axis=1))
    turns[segments.offsets[:-1]] = turns[segments.offsets[1:] - 1] = 0.0
    return turns


def _density(segments: Segments, inflections: NDArray[np.intp]) -> NDArray[np.float64]:
    """Tortuosity density: (n - 1)/n · 1/L · Σ (arc / chord - 1) over the n bends of a segment of length L; (S,).

    Source:
        E. Grisan, M. Foracchia, A. Ruggeri, A novel method for the automatic grading of retinal vessel tortuosity,
        IEEE TMI 27(3), 2008.
    """
    starts = np.union1d(segments.offsets[:-1], inflections)
    following = np.append(starts[1:], segments.offsets[-1])
    ends = np.where(np.isin(following, segments.offsets), following - 1, following)
    way = np.cumsum(segments.steps)
    arcs = way[ends] - way[starts]
    chords = np.linalg.norm(segments.points[ends] - segments.points[starts], axis=1)
    owners = segments.owners[starts]
    excess = np.bincount(owners, weights=arcs / np.maximum(chords, 1) - 1, minlength=len(segments))
    count = np.bincount(owners, minlength=len(segments))
    density: NDArray[np.float64] = (count - 1) / count * np.maximum(excess, 0) / np.maximum(segments.lengths, 1)
    return density


def _inflections(segments: Segments, turns: NDArray[np.float64]) -> NDArray[np.intp]:
    """The points from which on a segment bends the other way, by at least `LEAST_TURN`."""
    turning = np.flatnonzero(turns)
    left, owners = turns[turning] > 0, segments.owners[turning]
    begins = np.ones(len(turning), dtype=bool)
    begins[1:] = (left[1:] != left[:-1]) | (owners[1:] != owners[:-1])
    runs = np.cumsum(begins) - 1
    strong = np.abs(np.bincount(runs, weights=turns[turning])) >= LEAST_TURN
    first = np.flatnonzero(begins)[strong]
    changes = (left[first[1:]] != left[first[:-1]]) & (owners[first[1:]] == owners[first[:-1]])
    inflections: NDArray[np.intp] = turning[first[1:][changes]]
    return inflections
