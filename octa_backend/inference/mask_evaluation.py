"""How far one predicted mask agrees with a known one.

Shapes: H x W pixels, K classes with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.masks import class_of_value, listed, values_of
from octa_backend.errors import MaskDoesNotFit
from octa_backend.training.ignored import IGNORED
from octa_backend.training.metrics import Counts, overlap
from octa_backend.training.skeleton import cldice


@dataclass(frozen=True, slots=True)
class Agreement:
    """One class of two masks, each number in 0..1; see `metrics.overlap` and `skeleton.cldice`."""

    dice: float
    iou: float
    precision: float
    recall: float
    cldice: float


@dataclass(frozen=True, slots=True)
class MaskEvaluation:
    """What a predicted mask scores.

    Attributes:
        mean: over the foreground classes that one of the masks holds. Where neither holds any, the two agree: 1.0.
            None where no pixel counts.
        classes: of class 1, 2, …; None for a class that neither holds.
        counted_fraction: share of the pixels that counted.
    """

    mean: Agreement | None
    classes: tuple[Agreement | None, ...]
    counted_fraction: float


def classes_of_mask(
    values: NDArray[np.integer], name: str, mask_values: Sequence[int], classes: int
) -> NDArray[np.uint8]:
    """A mask of stored values as the classes of a model's dataset.

    With two classes the mask has 0 and at most one other value, whatever it is. With more it has the values that the
    dataset's masks have, or else the class numbers 0, 1, … that predicted masks have.

    Args:
        values: whole numbers, (H, W).
        name: for messages.
        mask_values: the value of class 0, 1, … in the dataset; empty where that is not known.
        classes: of the dataset, with background.

    Raises:
        MaskDoesNotFit: it has other values.
    """
    found = values_of(values)
    if classes == 2:
        if not found.is_two_valued:
            raise MaskDoesNotFit(
                f"mask {name} has the values {listed(found)}; for a model of foreground and background a mask has 0 "
                "and one other value, such as 255"
            )
        foreground: NDArray[np.uint8] = (values != 0).astype(np.uint8)
        return foreground
    numbers = tuple(range(classes))
    for known in (tuple(mask_values), numbers):
        if known and set(found.lowest) <= set(known):
            numbered: NDArray[np.uint8] = np.take(class_of_value(known), values)
            return numbered
    expected = " or ".join(
        ", ".join(map(str, known)) for known in dict.fromkeys((tuple(mask_values) or numbers, numbers))
    )
    raise MaskDoesNotFit(f"mask {name} has the values {listed(found)}; the masks of this model have {expected}")


def evaluate_mask(predicted: NDArray[np.integer], target: NDArray[np.integer], classes: int) -> MaskEvaluation:
    """Compare a predicted mask with the known one.

    Args:
        predicted: class indices of the network, (H, W).
        target: likewise, `IGNORED` where a pixel does not count. Centre lines end there in both masks.
        classes: of the network, with background.

    Raises:
        ValueError: the shapes differ (broadcasting would hide a bug).
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {predicted.shape} but the mask is {target.shape}")
    counted = target != IGNORED
    counted_predicted = np.where(counted, predicted, 0)
    scores = tuple(_agreement(counted_predicted == index, target == index) for index in range(1, classes))
    present = [score for score in scores if score is not None]
    return MaskEvaluation(_mean(present) if counted.any() else None, scores, float(counted.mean()))


def _agreement(predicted: NDArray[np.bool_], target: NDArray[np.bool_]) -> Agreement | None:
    counts = Counts(int((predicted & target).sum()), int(predicted.sum()), int(target.sum()), target.size)
    if counts.found + counts.true == 0:
        return None
    return Agreement(**asdict(overlap(counts)), cldice=cldice(predicted, target))


def _mean(present: Sequence[Agreement]) -> Agreement:
    if not present:
        return Agreement(1.0, 1.0, 1.0, 1.0, 1.0)
    return Agreement(**{one.name: fmean(getattr(score, one.name) for score in present) for one in fields(Agreement)})
