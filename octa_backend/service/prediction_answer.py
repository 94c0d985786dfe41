"""One scan's answer, as the API shows it; imports torch.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import to_unit
from octa_backend.inference import pictures
from octa_backend.inference.decision import Prediction
from octa_backend.inference.ensemble import Together
from octa_backend.service import evaluated_answer as comparing
from octa_backend.service import measured_answer as measuring
from octa_backend.service.predict_service import NOTICE, Answer, Extent, ImageFile, PredictOptions
from octa_backend.service.scan_warnings import scan_warnings
from octa_backend.service.segmenting import Segmented, read_known_mask, segment
from octa_backend.storage.tables import new_id


def answer(
    models: Together,
    image: NDArray[np.generic],
    scan: ImageFile,
    options: PredictOptions,
    known: ImageFile | None,
    max_pixels: int,
    extent: Extent = "answer",
) -> Answer:
    """Segment a scan, (C, H, W) as decoded, and tell what was asked for; see `PredictService.predict`."""
    height, width = image.shape[1:]
    # Read before the scan is computed, so that a mask that does not fit costs no time.
    target = read_known_mask(known, scan.name, (height, width), models, max_pixels) if known else None
    segmented = segment(models, image, options)
    found = segmented.found
    mask_png = pictures.png(pictures.mask_picture(found.mask, models.classes))
    if extent == "mask":
        return Answer({}, mask_png)
    unit_CHW = to_unit(image)
    overlay = pictures.overlay(unit_CHW, found.mask, models.classes, models.colours)
    body = {
        "prediction_id": new_id(),
        "model_id": ",".join(models.models),
        "model_ids": list(models.models),
        "file": scan.name,
        "width": width,
        "height": height,
        "threshold": segmented.threshold.value,
        "threshold_source": segmented.threshold.source,
        "foreground_fraction": found.foreground_fraction,
        "classes": _classes(models, found) if models.classes > 2 else None,
        "cleaning": _cleaning(segmented),
        "mask_png": _text(mask_png),
        "overlay_png": _encoded(overlay),
        "confidence": {"mean": found.confidence, "uncertain_fraction": found.uncertain_fraction},
        **_maps(found, options),
        **_measured(image, models, found, options),
        **_compared(models, unit_CHW, found, known, target),
        "warnings": scan_warnings(models, image, options.language),
        "seconds": found.seconds,
        "engine": models.engine,
        "notice": NOTICE,
    }
    return Answer(body, mask_png, pictures.kept_pictures(image, found.probability) if extent == "kept" else {})


def _classes(models: Together, found: Prediction) -> list[dict[str, Any]]:
    """What the class indices of a mask mean, and how much of the scan each foreground class has."""
    names = [label.name for label in models.labels] or [f"class {index}" for index in range(models.classes)]
    return [
        {"class": index, "name": name, "colour": colour, "fraction": float((found.mask == index).mean())}
        for index, (name, colour) in enumerate(zip(names[1:], models.colours, strict=True), start=1)
    ]


def _cleaning(segmented: Segmented) -> dict[str, int] | None:
    cleaned = segmented.cleaned
    if cleaned is None:
        return None
    return {"objects_removed": cleaned.objects_removed, "holes_filled": cleaned.holes_filled}


def _maps(found: Prediction, options: PredictOptions) -> dict[str, str | None]:
    certainty = pictures.grey_levels(found.certainty, np.uint8) if options.with_confidence else None
    probability = pictures.grey_levels(found.probability, np.uint16) if options.with_probability else None
    return {"confidence_png": _encoded(certainty), "probability_png": _encoded(probability)}


def _measured(
    image: NDArray[np.generic], models: Together, found: Prediction, options: PredictOptions
) -> dict[str, Any]:
    if options.measuring is None:
        return measuring.nothing_measured()
    told = measuring.AnswerOptions(options.with_segments, options.with_picture, options.language)
    return measuring.measured_answer(image, found.mask, models.classes, options.measuring, told)


def _compared(
    models: Together,
    unit_CHW: NDArray[np.float32],
    found: Prediction,
    known: ImageFile | None,
    target: NDArray[np.int64] | None,
) -> dict[str, Any]:
    if known is None or target is None:
        return {"evaluation": None, "difference_png": None}
    agreement = comparing.evaluated(models, found.mask, target)
    return {
        "evaluation": comparing.told(models, known.name, agreement),
        "difference_png": _encoded(comparing.drawn(models, unit_CHW, found.mask, target)),
    }


def _encoded(picture: NDArray[np.uint8] | NDArray[np.uint16] | None) -> str | None:
    return None if picture is None else _text(pictures.png(picture, pictures.QUICK))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
