"""Likely label errors: where a mask contradicts what a model is sure of.

The idea of confident learning (C. Northcutt, L. Jiang, I. Chuang, JAIR 70, 2021): a label that a well-trained model
denies with high probability is worth a second look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.predictor import Predictor

CONFIDENT = 0.9
"""Probability from which the model is sure of foreground; below 1 - CONFIDENT it is sure of background."""


@dataclass(frozen=True, slots=True)
class LabelReview:
    """One scan's mask against a model.

    Attributes:
        scan: its name.
        missed_fraction: pixels that are surely foreground but not in the mask, as a share of `marked`.
        extra_fraction: pixels of the mask that are surely background, as a share of `marked`.
        dice: of mask and prediction at a threshold of 0.5.
    """

    scan: str
    missed_fraction: float
    extra_fraction: float
    dice: float

    @property
    def disagreement(self) -> float:
        """Share of the pixels that mask or model call foreground where the model is sure that the mask is wrong."""
        return self.missed_fraction + self.extra_fraction


Labelled = tuple[str, NDArray[Any], NDArray[np.bool_]]
"""A scan's name, its image (C, H, W) as decoded, and where its grader sees foreground, (H, W)."""


def review(
    predictor: Predictor, scans: Iterable[Labelled], progress: Callable[[], None] = lambda: None
) -> list[LabelReview]:
    """Compare masks with a model's confident predictions.

    Args:
        predictor: a trained model; foreground means any class but 0.
        scans: what to look at, one at a time; leave the test split out, it is looked at once only.
        progress: called after each scan.

    Returns:
        The most suspicious scan first.
    """
    reviews = []
    for name, image_CHW, mask_HW in scans:
        reviews.append(compare(name, predictor.predict(image_CHW).probability, mask_HW))
        progress()
    return sorted(reviews, key=lambda found: (-found.disagreement, found.scan))


def compare(scan: str, probability_HW: NDArray[np.float32], mask_HW: NDArray[np.bool_]) -> LabelReview:
    """One mask against foreground probabilities.

    Args:
        scan: its name.
        probability_HW: of foreground, 0..1.
        mask_HW: True where the grader sees foreground.
    """
    predicted_HW = probability_HW >= 0.5
    marked = max(1, int(np.count_nonzero(predicted_HW | mask_HW)))
    both = int(np.count_nonzero(predicted_HW & mask_HW))
    area = int(np.count_nonzero(predicted_HW) + np.count_nonzero(mask_HW))
    return LabelReview(
        scan=scan,
        missed_fraction=int(np.count_nonzero((probability_HW >= CONFIDENT) & ~mask_HW)) / marked,
        extra_fraction=int(np.count_nonzero((probability_HW <= 1 - CONFIDENT) & mask_HW)) / marked,
        dice=2 * both / area if area else 1.0,
    )
