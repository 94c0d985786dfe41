"""What an answer says of a known mask: how far the predicted one agrees with it, and where it does not."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.difference_picture import difference_picture
from octa_backend.inference.ensemble import Together
from octa_backend.inference.mask_evaluation import Agreement, MaskEvaluation, evaluate_mask
from octa_backend.training.ignored import dataset_class, network_classes

METRICS = tuple(field.name for field in fields(Agreement))


def evaluated(models: Together, mask: NDArray[np.uint8], target: NDArray[np.int64]) -> MaskEvaluation:
    """Compare a predicted mask with a known one.

    Args:
        models: that predicted it.
        mask: class indices of the dataset, (H, W).
        target: see `segmenting.read_known_mask`.
    """
    return evaluate_mask(network_classes(mask, models.ignore_index), target, networks_classes(models))


def networks_classes(models: Together) -> int:
    """How many classes the networks tell apart, with background."""
    return models.classes - (models.ignore_index is not None)


def told(models: Together, name: str, found: MaskEvaluation) -> dict[str, Any]:
    """The evaluation as an answer has it.

    Args:
        models: that predicted the mask.
        name: of the known mask.
        found: see `evaluated`.
    """
    names = dict(enumerate(label.name for label in models.labels))
    classes = []
    for index, score in enumerate(found.classes, start=1):
        number = dataset_class(index, models.ignore_index)
        scores = asdict(score) if score is not None else dict.fromkeys(METRICS)
        classes.append({"class": number, "name": names.get(number, f"class {number}"), **scores})
    return {
        "mask": name,
        "mean": asdict(found.mean) if found.mean is not None else dict.fromkeys(METRICS),
        "classes": classes,
        "ignored_fraction": 1 - found.counted_fraction,
    }


def drawn(
    models: Together, unit_CHW: NDArray[np.float32], mask: NDArray[np.uint8], target: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Where the mask is right and wrong, on the scan in 0..1; see `difference_picture`."""
    return difference_picture(unit_CHW, network_classes(mask, models.ignore_index), target)
