"""Predictions: which model answers, with which engine, and what the answer holds."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octa_backend.data.normalise import to_unit
from octa_backend.data.scans import read_image
from octa_backend.diagnosis.text import Language
from octa_backend.errors import OctaError
from octa_backend.inference.export_record import ExportFormat, find_export, find_failure
from octa_backend.inference.model_folder import WEIGHTS_FILE, member_folders, read_card
from octa_backend.inference.scale import MeasureOptions
from octa_backend.service.exporter import Exporter
from octa_backend.service.loaded_models import Loaded, LoadedModels
from octa_backend.service.models_in_use import ModelsInUse, for_a_prediction
from octa_backend.service.predict_queue import PredictQueue
from octa_backend.settings import EngineName, Settings
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Model, new_id

if TYPE_CHECKING:  # torch is imported with the first prediction, not with the server
    from octa_backend.inference.predictor import Prediction, Predictor

NOTICE = "research use only"

_log = logging.getLogger(__name__)


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
    """Answers with published models.

    A model whose graph was not exported yet answers with torch; it is exported in the background, one model after the
    other, and loaded anew when that is done.

    Attributes:
        queue: counts the requests under way.
        exporter: makes exports.
        in_use: the models that are answering.
    """

    def __init__(self, settings: Settings, files: Files) -> None:
        self.queue = PredictQueue(settings.predict_queue)
        self.exporter = Exporter(settings.worker_niceness)
        self.in_use = ModelsInUse()
        self._settings = settings
        self._files = files
        self._models = LoadedModels(self._load, settings.models_memory_mib)
        self._warming: Sequence[Future[None]] = ()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="octa-models")

    def warm(self, model_ids: Sequence[str]) -> None:
        """Load models in the background, so that their first prediction is quick."""
        self._warming = [self._background.submit(self._warm, model_id) for model_id in model_ids]

    @property
    def is_warm(self) -> bool:
        """Whether the models that were to be loaded in advance have been, or cannot be."""
        return all(one.done() for one in self._warming)

    def close(self) -> None:
        """End what runs in the background."""
        self._background.shutdown(wait=False, cancel_futures=True)
        self.exporter.close()
        self._background.shutdown()

    @for_a_prediction
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
            "engine": predictor.engine,
            "notice": NOTICE,
        }
        return Answer(body, mask_png)

    def predictor(self, model_id: str) -> Predictor:
        """The model in memory, loaded where it is not."""
        return self._models.get(model_id)

    def forget(self, model_id: str) -> None:
        """Drop a model that was deleted: from memory, and what is being made of it."""
        self._models.forget(model_id)
        self.exporter.stop(self._files.model(model_id))

    def _load(self, model_id: str) -> Loaded:
        from octa_backend.inference.engines import export_wanted  # noqa: PLC0415 - imports torch
        from octa_backend.inference.warm_up import warm_up  # noqa: PLC0415
        from octa_backend.training.memory import used_mib  # noqa: PLC0415
        from octa_backend.training.precision import pick_device  # noqa: PLC0415

        folder, device = self._files.model(model_id), pick_device(self._settings.device)
        before = used_mib(device)
        predictor = load_predictor(folder, self._settings.device, self._settings.engine)
        warm_up(predictor, folder)
        members = member_folders(folder, read_card(folder))
        wanted = export_wanted(device.type, self._settings.engine)
        missing = [one for one in members if wanted and not _export_is_settled(one, wanted)]
        if wanted and missing:
            self._background.submit(self._export, model_id, missing, wanted)
        _log.info("model %s is loaded and computes with %s", model_id, predictor.engine)
        # Memory that an earlier model left may serve this one, so growth alone could come out as nothing.
        return Loaded(predictor, max(used_mib(device) - before, _weights_mib(members)))

    def _warm(self, model_id: str) -> None:
        try:
            self.predictor(model_id)
        except (OctaError, OSError) as error:
            _log.warning("model %s could not be loaded in advance: %s", model_id, error)

    def _export(self, model_id: str, members: Sequence[Path], wanted: ExportFormat) -> None:
        try:
            for member in members:
                self.exporter.ensure(member, wanted)
            self._models.reload(model_id)
        except (OctaError, OSError) as error:  # OSError: it was deleted meanwhile, or the disk is full
            _log.warning("model %s goes on with plain torch: %s", model_id, error)


def _export_is_settled(member: Path, wanted: ExportFormat) -> bool:
    """Whether a model's export is there, or is known to be impossible."""
    return find_export(member, wanted) is not None or find_failure(member, wanted) is not None


def _weights_mib(members: Sequence[Path]) -> float:
    return sum((member / WEIGHTS_FILE).stat().st_size for member in members) / 2**20


def _classes(predictor: Predictor, found: Prediction) -> list[dict[str, Any]]:
    """What the class indices of a mask mean, and how much of the scan each foreground class has."""
    names = [label.name for label in predictor.labels] or [f"class {index}" for index in range(predictor.classes)]
    return [
        {"class": index, "name": name, "colour": colour, "fraction": float((found.mask == index).mean())}
        for index, (name, colour) in enumerate(zip(names[1:], predictor.colours, strict=True), start=1)
    ]


def load_predictor(folder: Path, wanted_device: str, wanted_engine: EngineName = "auto") -> Predictor:
    """Load a published model with the quickest engine that was exported for it; see `open_predictor`."""
    from octa_backend.inference.predictor import open_predictor  # noqa: PLC0415 - imports torch

    return open_predictor(folder, wanted_device, wanted_engine)
