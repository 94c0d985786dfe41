"""One scan segmented as it was asked for, and compared with a known mask; imports torch.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.scans import read_mask
from octa_backend.errors import MaskDoesNotFit
from octa_backend.inference.cleaning import Cleaned, clean
from octa_backend.inference.decision import Prediction, decide
from octa_backend.inference.ensemble import Together
from octa_backend.inference.mask_evaluation import classes_of_mask
from octa_backend.inference.thresholds import Threshold, settle
from octa_backend.service.predict_service import ImageFile, PredictOptions
from octa_backend.training.ignored import network_classes


@dataclass(frozen=True, slots=True)
class Segmented:
    """A scan's answer: its mask is tidied up; confidence and certainty are of what the models chose before that.

    Attributes:
        found: mask and probabilities.
        threshold: from which a pixel is foreground.
        cleaned: what was tidied up, or None where nothing was to be.
    """

    found: Prediction
    threshold: Threshold
    cleaned: Cleaned | None


def segment(models: Together, image: NDArray[np.generic], options: PredictOptions) -> Segmented:
    """Segment one scan, (C, H, W) as decoded.

    Raises:
        InvalidOptions: the threshold is for models of two classes.
        NoTunedThreshold: a model has none.
    """
    start = time.perf_counter()
    probability_KHW = models.probabilities(image, tta=options.tta)
    seconds = time.perf_counter() - start
    threshold = settle(
        options.threshold,
        (1 - probability_KHW[0]).numpy(),
        probability_KHW.shape[0] == 2,
        [model.tuned_threshold for model in models.models.values()],
    )
    found = decide(probability_KHW, threshold.value, seconds, models.ignore_index)
    if options.cleaning is None:
        return Segmented(found, threshold, None)
    cleaned = clean(found.mask, *options.cleaning.limits(found.mask.shape[1]))
    return Segmented(replace(found, mask=cleaned.mask), threshold, cleaned)


def read_known_mask(
    known: ImageFile, scan: str, shape: tuple[int, int], models: Together, max_pixels: int
) -> NDArray[np.int64]:
    """A known mask in the classes of the models' networks, (H, W), `IGNORED` where a pixel does not count.

    Args:
        known: the mask's file.
        scan: name of the scan that it belongs to.
        shape: (H, W) of that scan.
        models: whose classes it has.
        max_pixels: the most pixels to decode.

    Raises:
        UnreadableScan, ScanTooLarge: it is no mask.
        MaskDoesNotFit: it has another size than the scan, or values that are no classes of the models.
    """
    values = read_mask(known.content, known.name, max_pixels)
    if values.shape != shape:
        raise MaskDoesNotFit(
            f"mask {known.name} is {values.shape[1]}×{values.shape[0]} but scan {scan} is {shape[1]}×{shape[0]}; "
            "export both from the same scan"
        )
    classes = classes_of_mask(values, known.name, models.mask_values, models.classes)
    return network_classes(classes, models.ignore_index)
