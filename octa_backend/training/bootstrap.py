"""How sure a mean over scans is: a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
_AT_ONCE = 1_000  # resamples drawn together, so that memory stays small


class Interval(NamedTuple):
    """The lower and the upper end."""

    low: float
    high: float


def mean_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 42
) -> Interval | None:
    """Percentile bootstrap interval of the mean.

    As many scans as there are, drawn with replacement, `resamples` times; the interval holds the middle `confidence`
    of the means. It speaks of the spread between scans, not of that between trainings, and takes scans as independent:
    with several scans per patient it is too narrow.

    Args:
        values: one per scan.
        confidence: above 0 and below 1.
        resamples: how often to draw.
        seed: the same seed gives the same interval.

    Returns:
        None for fewer than two values, which show no spread.

    Source:
        B. Efron, The Annals of Statistics 7(1), 1979; percentile method: Efron and Tibshirani, 1993, chapter 13.
    """
    if len(values) < 2:
        return None
    generator, observed = np.random.default_rng(seed), np.asarray(values, dtype=np.float64)
    means = [
        observed[generator.integers(len(observed), size=(min(_AT_ONCE, resamples - done), len(observed)))].mean(axis=1)
        for done in range(0, resamples, _AT_ONCE)
    ]
    outside = (1 - confidence) / 2 * 100
    low, high = np.percentile(np.concatenate(means), (outside, 100 - outside))
    return Interval(float(low), float(high))
