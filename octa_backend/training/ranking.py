"""How well probabilities rank foreground above background, whatever the threshold: the area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def roc_auc(probability: NDArray[np.floating], target: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: the chance that a foreground pixel gets a higher probability than a background one.

    Equal probabilities count one half, exactly. It is computed from integer counts per different value, so the only
    rounding is that of the final division.

    Args:
        probability: (*spatial), finite.
        target: bool, (*spatial).

    Returns:
        In 0..1; None where the scan holds foreground or background alone, because there is nothing to rank.

    Raises:
        ValueError: the shapes differ.

    Source:
        J. A. Hanley and B. J. McNeil, Radiology 143(1), 1982: AUC is the Mann-Whitney statistic U / (P·N).
    """
    if probability.shape != target.shape:
        raise ValueError(f"the probabilities are {probability.shape} but the mask is {target.shape}")
    values, place = np.unique(probability.reshape(-1), return_inverse=True)
    foreground = np.bincount(place[target.reshape(-1)], minlength=values.size)
    background = np.bincount(place, minlength=values.size) - foreground
    return auc_of_counts(foreground, background)


def auc_of_counts(foreground: NDArray[np.integer], background: NDArray[np.integer]) -> float | None:
    """The same from a histogram: counts per probability (or bin of probabilities), in rising order.

    Probabilities in one bin count as equal.
    """
    positives, negatives = int(foreground.sum()), int(background.sum())
    if positives == 0 or negatives == 0:
        return None
    below = np.cumsum(background, dtype=np.int64) - background
    # Twice U stays an integer: a pair that is ranked right counts 2, a tie 1. It fits int64 up to 3·10⁹ pixels.
    doubled = int(np.dot(foreground.astype(np.int64), 2 * below + background))
    return doubled / (2 * positives * negatives)
