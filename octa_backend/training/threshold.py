"""The probability from which a pixel is called foreground, tuned for the highest mean Dice.

Every scan is seen once: a histogram of its probabilities gives its Dice at all thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

USUAL = 0.5
STEPS = 200
THRESHOLDS: tuple[float, ...] = tuple(step / STEPS for step in range(1, STEPS))
"""The candidates: 0.005, 0.010, … 0.995."""

# Compared in float32 like the probabilities, so that the counts are those of the masks that a threshold makes.
_EDGES = np.asarray(THRESHOLDS, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ProbabilityHistogram:
    """The probabilities of one scan in `STEPS` bins; bin k holds those from k/STEPS up to, not with, (k+1)/STEPS.

    Attributes:
        foreground: int64, (STEPS,), pixels that the grader marked.
        background: int64, (STEPS,), the others.
    """

    foreground: NDArray[np.int64]
    background: NDArray[np.int64]

    @classmethod
    def of(cls, probability: NDArray[np.float32], target: NDArray[np.bool_]) -> Self:
        """Count one scan's probabilities, (*spatial), under its mask, (*spatial)."""
        bins = np.searchsorted(_EDGES, probability.reshape(-1), side="right")
        foreground = np.bincount(bins[target.reshape(-1)], minlength=STEPS)
        return cls(foreground, np.bincount(bins, minlength=STEPS) - foreground)

    @property
    def total(self) -> int:
        """How many pixels were counted."""
        return int(self.foreground.sum() + self.background.sum())

    def dice(self) -> NDArray[np.float64]:
        """Dice at each of `THRESHOLDS`, as `metrics.overlap` has it: 1.0 where both masks are empty."""
        hit = _from_each_on(self.foreground)
        found = hit + _from_each_on(self.background)
        size = found + self.foreground.sum()
        return np.where(size > 0, 2 * hit / np.maximum(size, 1), 1.0)


@dataclass(frozen=True, slots=True)
class TunedThreshold:
    """The best threshold, and what it gains on the scans it was chosen on.

    Attributes:
        threshold: of the highest mean Dice; of several equal ones the nearest to 0.5.
        dice: mean Dice over scans at it.
        usual_dice: mean Dice over scans at 0.5.
        scans: how many scans chose it.
        curve: mean Dice at each of `THRESHOLDS`.
    """

    threshold: float
    dice: float
    usual_dice: float
    scans: int
    curve: tuple[float, ...]


def tune_threshold(histograms: Sequence[ProbabilityHistogram]) -> TunedThreshold:
    """Choose the threshold of the highest mean Dice over the scans in which a pixel counts, or the usual one where
    none does in any.

    Raises:
        ValueError: there are no scans.
    """
    if not histograms:
        raise ValueError("a threshold needs at least one scan to be tuned on")
    curves = [histogram.dice() for histogram in histograms if histogram.total]
    mean = np.mean(curves, axis=0) if curves else np.zeros(len(THRESHOLDS))
    return _best_of(mean, len(curves) or len(histograms))


def pool(several: Sequence[tuple[Sequence[float], int]]) -> TunedThreshold:
    """The threshold of the highest mean Dice over the scans of several tunings, such as a cross-validation's folds.

    Args:
        several: the curve of each, and over how many scans it is the mean; at least one.
    """
    curves, scans = zip(*several, strict=True)
    return _best_of(np.average(np.asarray(curves, dtype=np.float64), axis=0, weights=scans), sum(scans))


def _best_of(mean: NDArray[np.float64], scans: int) -> TunedThreshold:
    best = max(range(len(mean)), key=lambda at: (round(float(mean[at]), 12), -abs(THRESHOLDS[at] - USUAL)))
    return TunedThreshold(
        threshold=THRESHOLDS[best],
        dice=float(mean[best]),
        usual_dice=float(mean[THRESHOLDS.index(USUAL)]),
        scans=scans,
        curve=tuple(float(value) for value in mean),
    )


def _from_each_on(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many lie at or above each of `THRESHOLDS`."""
    return np.cumsum(counts[::-1])[::-1][1:]
