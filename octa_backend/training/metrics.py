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


PERFECT = ScanScore(dice=1.0, iou=1.0, precision=1.0, recall=1.0)
"""What two empty masks score: they agree."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels or voxels of one class: `hit` of both masks, `found` by the network, `true` to the grader, `total`."""

    hit: int
    found: int
    true: int
    total: int


def overlap(counts: Counts) -> ScanScore:
    """Dice, IoU, precision and recall of one class.

    Two empty masks agree: 1.0. Else a ratio with nothing below its line is 0.0: vessels found in an empty scan cost,
    and so does an empty prediction of a full one.

    Source:
        Dice: L. R. Dice, Ecology 26(3), 1945, 2|A∩B| / (|A| + |B|). IoU: P. Jaccard, 1912, |A∩B| / |A∪B|.
        Precision: hits / found. Recall (sensitivity): hits / true.
    """
    hit, found, true = counts.hit, counts.found, counts.true
    if found + true == 0:
        return PERFECT
    return ScanScore(
        dice=2 * hit / (found + true),
        iou=hit / (found + true - hit),
        precision=hit / found if found else 0.0,
        recall=hit / true if true else 0.0,
    )


def specificity(counts: Counts) -> float | None:
    """Share of what is not of the class that was left alone: TN / (TN + FP); None where the class fills the scan."""
    negatives = counts.total - counts.true
    return 1 - (counts.found - counts.hit) / negatives if negatives else None


def score_scan(predicted: Tensor, target: Tensor, classes: int) -> ScanScore:
    """Compare one predicted mask with the grader's.

    A class that neither holds is left out; if that leaves none, the two agree: 1.0. See `overlap` for each class.

    Args:
        predicted: class indices, (*spatial).
        target: class indices, (*spatial).
        classes: number of classes with background; 2 for binary masks.

    Returns:
        The mean over the foreground classes present.

    Raises:
        ValueError: the shapes differ (broadcasting would hide a bug).
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {tuple(predicted.shape)} but the mask is {tuple(target.shape)}")
    present = []
    for index in range(1, classes):
        found, true = predicted == index, target == index
        hit, found_size, true_size = (int(part.sum()) for part in (found & true, found, true))
        if found_size + true_size > 0:
            present.append(overlap(Counts(hit, found_size, true_size, target.numel())))
    return mean_score(present) if present else PERFECT


def mean_score(scores: Sequence[ScanScore]) -> ScanScore:
    """The mean of each metric over scans (or classes)."""
    return ScanScore(**{f.name: fmean(getattr(score, f.name) for score in scores) for f in fields(ScanScore)})
