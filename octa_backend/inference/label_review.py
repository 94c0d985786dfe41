"""Likely label errors: where a mask contradicts what a model is sure of.

The idea of confident learning (C. Northcutt, L. Jiang, I. Chuang, JAIR 70, 2021): a label that a well-trained model
denies with high probability is worth a second look.

Shapes: C channels, *spatial H x W pixels or D x H x W voxels, N of them that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octa_backend.errors import ModelDoesNotFit
from octa_backend.inference.predictor import Predictor
from octa_backend.training.ignored import IGNORED, network_classes

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


class Labelled(NamedTuple):
    """A scan with its mask.

    Attributes:
        name: of the scan.
        image: (C, *spatial), as decoded.
        mask: (*spatial), class numbers.
        spacing_mm: of a volume, (D, H, W); empty where that is not known.
    """

    name: str
    image: NDArray[Any]
    mask: NDArray[np.uint8]
    spacing_mm: tuple[float, ...] = ()


def review(
    predictor: Predictor,
    scans: Iterable[Labelled],
    ignore_index: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[LabelReview]:
    """Compare masks with a model's confident predictions.

    Args:
        predictor: a trained model; foreground means any class but 0.
        scans: what to look at, one at a time; leave the test split out, it is looked at once only.
        ignore_index: class of the masks that the model does not know: its pixels are neither missed nor extra.
        progress: called after each scan.

    Returns:
        The most suspicious scan first.

    Raises:
        ModelDoesNotFit: volumes are held against a model of pictures or the other way round; or see
            `VolumePredictor.foreground`.
    """
    reviews = []
    for scan in scans:
        if scan.mask.ndim != predictor.spatial_dims:
            kinds = {2: "pictures", 3: "volumes"}
            found, wanted = kinds[scan.mask.ndim], kinds[predictor.spatial_dims]
            raise ModelDoesNotFit(f"the dataset holds {found}, but the model was trained on {wanted}")
        probability = predictor.foreground(scan.image, scan.spacing_mm)
        reviews.append(compare(scan.name, probability, network_classes(scan.mask, ignore_index)))
        progress()
    return sorted(reviews, key=lambda found: (-found.disagreement, found.scan))


def compare(scan: str, probability: NDArray[np.float32], target: NDArray[np.integer]) -> LabelReview:
    """One mask against foreground probabilities.

    Args:
        scan: its name.
        probability: of foreground, (*spatial), 0..1.
        target: likewise, classes, of which all but 0 are foreground; `IGNORED` where a pixel does not count.
    """
    counted = target != IGNORED
    probability_N, mask_N = probability[counted], target[counted] > 0
    predicted_N = probability_N >= 0.5
    marked = max(1, int(np.count_nonzero(predicted_N | mask_N)))
    both = int(np.count_nonzero(predicted_N & mask_N))
    area = int(np.count_nonzero(predicted_N) + np.count_nonzero(mask_N))
    return LabelReview(
        scan=scan,
        missed_fraction=int(np.count_nonzero((probability_N >= CONFIDENT) & ~mask_N)) / marked,
        extra_fraction=int(np.count_nonzero((probability_N <= 1 - CONFIDENT) & mask_N)) / marked,
        dice=2 * both / area if area else 1.0,
    )
