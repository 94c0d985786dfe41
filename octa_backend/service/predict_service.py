"""Predictions: which model answers, kept in memory, and what the answer holds."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octa_backend.data.normalise import to_unit
from octa_backend.data.scans import read_image
from octa_backend.diagnosis.text import Language
from octa_backend.inference.scale import MeasureOptions
from octa_backend.settings import Settings
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Model, new_id

if TYPE_CHECKING:  # torch is imported with the first prediction, not with the server
    from octa_backend.inference.predictor import Prediction, Predictor

MODELS_IN_MEMORY = 2
NOTICE = "research use only"


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to predict, and what is told of the mask.

    Attributes:
        threshold: probability from which a pixel is foreground.
        tta: average over flips.
        measuring: scale and class of the measurements; None: nothing is measured.
        with_segments: tell of each vessel segment.
        with_picture: draw what was measured.
        language: of the reasons why something was not.
    """

    threshold: float = 0.5
    tta: bool = False
    measuring: MeasureOptions | None = None
    with_segments: bool = False
    with_picture: bool = False
    language: Language = "en"


@dataclass(frozen=True, slots=True)
class Answer:
    """One scan's prediction, as the API shows it, and its mask as PNG."""

    body: dict[str, Any]
    mask_png: bytes


class PredictService:
    """Answers with published models; the least recently used one leaves memory first."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings = settings
        self._files = files
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()

    def predict(self, model: Model, source: Path, name: str, options: PredictOptions) -> Answer:
        """Segment one scan.

        Raises:
            UnreadableScan, ScanTooLarge: the file is no image, or has too many pixels.
        """
        image = read_image(source, name, self._settings.max_scan_pixels)
        predictor = self.predictor(model.id)

        from octa_backend.inference import pictures  # noqa: PLC0415 - imports torch
        from octa_backend.service import measured_answer as told  # noqa: PLC0415 - imports scikit-image

        found = predictor.predict(image, threshold=options.threshold, tta=options.tta)
        mask_png = pictures.png(pictures.mask_picture(found.mask, predictor.classes))
        drawn = pictures.overlay(to_unit(image), found.mask, predictor.classes, predictor.colours)
        overlay = pictures.png(drawn)
        height, width = found.mask.shape
        answer = told.AnswerOptions(options.with_segments, options.with_picture, options.language)
        measured = (
            told.nothing_measured()
            if options.measuring is None
            else told.measured_answer(image, found.mask, predictor.classes, options.measuring, answer)
        )
        body = {
            "prediction_id": new_id(),
            "model_id": model.id,
            "file": name,
            "width": width,
            "height": height,
            "threshold": options.threshold,
            "foreground_fraction": found.foreground_fraction,
            "classes": _classes(predictor, found) if predictor.classes > 2 else None,
            "mask_png": base64.b64encode(mask_png).decode(),
            "overlay_png": base64.b64encode(overlay).decode(),
            "confidence": {"mean": found.confidence, "uncertain_fraction": found.uncertain_fraction},
            **measured,
            "seconds": found.seconds,
            "notice": NOTICE,
        }
        return Answer(body, mask_png)

    def predictor(self, model_id: str) -> Predictor:
        """The model in memory, loaded where it is not."""
        with self._lock:
            predictor = self._loaded.pop(model_id, None)
            if predictor is None:
                predictor = load_predictor(self._files.model(model_id), self._settings.device)
            self._loaded[model_id] = predictor
            while len(self._loaded) > MODELS_IN_MEMORY:
                self._loaded.popitem(last=False)
            return predictor

    def forget(self, model_id: str) -> None:
        """Drop a model that was deleted from memory."""
        with self._lock:
            self._loaded.pop(model_id, None)


def _classes(predictor: Predictor, found: Prediction) -> list[dict[str, Any]]:
    """What the class indices of a mask mean, and how much of the scan each foreground class has."""
    names = [label.name for label in predictor.labels] or [f"class {index}" for index in range(predictor.classes)]
    return [
        {"class": index, "name": name, "colour": colour, "fraction": float((found.mask == index).mean())}
        for index, (name, colour) in enumerate(zip(names[1:], predictor.colours, strict=True), start=1)
    ]


def load_predictor(folder: Path, wanted_device: str) -> Predictor:
    """Load a published model in the arithmetic that is fastest on the device, as measured."""
    from octa_backend.inference.predictor import Predictor  # noqa: PLC0415 - imports torch
    from octa_backend.training.precision import pick_device, probe  # noqa: PLC0415

    hardware = probe(pick_device(wanted_device))
    return Predictor(folder, hardware.device, "bf16" if hardware.bf16_pays else "fp32")
