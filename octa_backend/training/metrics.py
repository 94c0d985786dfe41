"""Overlap metrics per scan, then averaged.

Shapes: B scans, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScanScore:
    """Overlap of one predicted mask with the grader's, each in 0..1."""

    dice: float
    iou: float
    precision: float
    recall: float


def score_scan(predicted: Tensor, target: Tensor, classes: int) -> ScanScore:
    """Compare one predicted mask with the grader's.

    A class that neither holds is left out; if that leaves none, the two agree: 1.0. A ratio with nothing below
    its line is 0.0, so vessels found in an empty scan cost, and so does an empty prediction of a full one.

    Args:
        predicted: class indices, (*spatial).
        target: class indices, (*spatial).
        classes: number of classes with background; 2 for binary masks.

    Returns:
        The mean over the foreground classes present.

    Raises:
        ValueError: the shapes differ (broadcasting would hide a bug).

    Source:
        Dice: L. R. Dice, Ecology 26(3), 1945, 2|A∩B| / (|A| + |B|). IoU: P. Jaccard, 1912, |A∩B| / |A∪B|.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {tuple(predicted.shape)} but the mask is {tuple(target.shape)}")
    present = []
    for index in range(1, classes):
        found, true = predicted == index, target == index
        hit, found_size, true_size = (int(part.sum()) for part in (found & true, found, true))
        if found_size + true_size > 0:
            present.append(_ratios(hit, found_size, true_size))
    return mean_score(present) if present else ScanScore(1.0, 1.0, 1.0, 1.0)


def _ratios(hit: int, found: int, true: int) -> ScanScore:
    return ScanScore(
        dice=2 * hit / (found + true),
        iou=hit / (found + true - hit),
        precision=hit / found if found else 0.0,
        recall=hit / true if true else 0.0,
    )


def mean_score(scores: Sequence[ScanScore]) -> ScanScore:
    """The mean of each metric over scans (or classes)."""
    return ScanScore(**{f.name: fmean(getattr(score, f.name) for score in scores) for f in fields(ScanScore)})
