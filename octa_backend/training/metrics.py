"""Overlap metrics per scan, then averaged.

Shapes: B scans, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from torch import Tensor

from octa_backend.training.ignored import IGNORED, dataset_class


@dataclass(frozen=True, slots=True)
class ScanScore:
    """Overlap of one predicted mask with the grader's, each in 0..1."""

    dice: float
    iou: float
    precision: float
    recall: float


PERFECT = ScanScore(dice=1.0, iou=1.0, precision=1.0, recall=1.0)
"""What two empty masks score: they agree."""

NOTHING = ScanScore(dice=0.0, iou=0.0, precision=0.0, recall=0.0)


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


ClassScores = tuple[ScanScore | None, ...]
"""Of one scan's class 1, 2, …; None for a class that neither mask holds."""


def score_classes(predicted: Tensor, target: Tensor, classes: int) -> ClassScores:
    """Compare one predicted mask with the grader's, class by class; see `overlap`.

    Args:
        predicted: class indices, (*spatial).
        target: class indices, (*spatial), `IGNORED` where a pixel does not count.
        classes: number of classes with background; 2 for binary masks.

    Raises:
        ValueError: the shapes differ (broadcasting would hide a bug).
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {tuple(predicted.shape)} but the mask is {tuple(target.shape)}")
    scores: list[ScanScore | None] = []
    counted = target != IGNORED
    for index in range(1, classes):
        found, true = (predicted == index) & counted, target == index
        hit, found_size, true_size = (int(part.sum()) for part in (found & true, found, true))
        counts = Counts(hit, found_size, true_size, target.numel())
        scores.append(overlap(counts) if found_size + true_size > 0 else None)
    return tuple(scores)


def counts_at_all(target: Tensor) -> bool:
    """Whether any pixel of a mask counts. Where none does a scan scores nothing, and is left out of means."""
    return bool((target != IGNORED).any())


def mean_of_classes(scores: ClassScores) -> ScanScore:
    """The mean over the foreground classes that a scan's masks hold; where they hold none, the two agree: 1.0."""
    present = [score for score in scores if score is not None]
    return mean_score(present) if present else PERFECT


def mean_per_class(scans: Sequence[ClassScores], ignore_index: int | None = None) -> list[dict[str, Any]]:
    """What each foreground class scores over the scans in which a mask or a prediction holds it.

    Args:
        scans: class by class, as `score_classes` gives it.
        ignore_index: class of the dataset that the network leaves out.

    Returns:
        For each `class` of the dataset: mean `dice` and `iou` (None where no scan has it), over how many `scans`.
    """
    summaries: list[dict[str, Any]] = []
    for index, scores in enumerate(zip(*scans, strict=True), start=1):
        present = [score for score in scores if score is not None]
        mean = mean_score(present) if present else None
        overlaps = {"dice": mean.dice if mean else None, "iou": mean.iou if mean else None}
        summaries.append({"class": dataset_class(index, ignore_index), **overlaps, "scans": len(present)})
    return summaries


def mean_score(scores: Sequence[ScanScore]) -> ScanScore:
    """The mean of each metric over scans (or classes)."""
    return ScanScore(**{f.name: fmean(getattr(score, f.name) for score in scores) for f in fields(ScanScore)})
