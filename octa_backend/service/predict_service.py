"""Predictions: which model answers, with which engine, and what the answer holds."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from octa_backend.data.scans import read_image
from octa_backend.diagnosis.text import Language
from octa_backend.errors import OctaError
from octa_backend.inference.clean_options import CleanOptions
from octa_backend.inference.export_record import ExportFormat, find_export, find_failure
from octa_backend.inference.model_folder import WEIGHTS_FILE, member_folders, read_card, spatial_dims
from octa_backend.inference.scale import MeasureOptions
from octa_backend.inference.threshold_wish import Wish
from octa_backend.service.exporter import Exporter
from octa_backend.service.loaded_models import Loaded, LoadedModels
from octa_backend.service.models_in_use import ModelsInUse, for_a_prediction
from octa_backend.service.predict_queue import PredictQueue
from octa_backend.settings import EngineName, Settings
from octa_backend.storage.files import Files

if TYPE_CHECKING:  # torch is imported with the first prediction, not with the server
    from octa_backend.inference.ensemble import Together
    from octa_backend.inference.predictor import Predictor

NOTICE = "research use only"

Extent = Literal["mask", "answer", "kept"]
"""What is made of a scan: its mask's file alone; all that the API shows; also what the history keeps."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to predict, and what is told of the mask.

    Attributes:
        threshold: probability from which a pixel is foreground; `tuned` is the model's own, `auto` the scan's.
        tta: average over flips and right-angle turns.
        measuring: scale and class of the measurements; None: nothing is measured.
        with_segments: tell of each vessel segment.
        with_picture: draw what was measured.
        language: of warnings, and of the reasons why something was not measured.
        cleaning: which small objects and holes of the mask go, before it is measured; None: none.
        with_confidence: also draw the probability of the class chosen.
        with_probability: also draw the probability of foreground.
    """

    threshold: Wish = 0.5
    tta: bool = False
    measuring: MeasureOptions | None = None
    with_segments: bool = False
    with_picture: bool = False
    language: Language = "en"
    cleaning: CleanOptions | None = None
    with_confidence: bool = False
    with_probability: bool = False


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image: its file or its content, and what it is called in messages."""

    content: Path | BinaryIO
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One scan's prediction, as the API shows it, and its mask's file.

    Attributes:
        body: as the API shows it; empty where only the mask's file is asked for.
        mask_file: the mask as PNG, of a volume as .nii.gz.
        kept_pictures: file name -> PNG, of what the history keeps beside the pictures in `body`.
    """

    body: dict[str, Any]
    mask_file: bytes
    kept_pictures: Mapping[str, bytes] = field(default_factory=dict)


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

    def loaded_mib(self) -> list[float]:
        """What each model in memory takes there."""
        return self._models.sizes_mib()

    def close(self) -> None:
        """End what runs in the background."""
        self._background.shutdown(wait=False, cancel_futures=True)
        self.exporter.close()
        self._background.shutdown()

    @for_a_prediction
    def predict(
        self,
        model_ids: Sequence[str],
        scan: ImageFile,
        options: PredictOptions,
        known: ImageFile | None = None,
        extent: Extent = "answer",
    ) -> Answer:
        """Segment one scan with one model, or with several whose probabilities are averaged.

        Args:
            model_ids: at least one.
            scan: the file.
            options: how.
            known: the mask that the scan should have, with which the predicted one is compared.
            extent: what is made of it.

        Raises:
            UnreadableScan, ScanTooLarge: a file is no image, or has too many pixels.
            ModelsDiffer: the models have different classes.
            InvalidOptions, NoTunedThreshold: the threshold is none for these models.
            MaskDoesNotFit: the known mask has another size, or values that are no classes of the models.
        """
        from octa_backend.service import prediction_answer  # noqa: PLC0415 - imports torch

        max_pixels = self._settings.max_scan_pixels
        image = read_image(scan.content, scan.name, max_pixels)
        models = self.together(model_ids)
        return prediction_answer.answer(models, image, scan, options, known, max_pixels, extent)

    def together(self, model_ids: Sequence[str]) -> Together:
        """The models in memory, loaded where they are not, as one.

        Raises:
            ModelsDiffer: they have different classes.
        """
        from octa_backend.inference.ensemble import Together  # noqa: PLC0415 - imports torch

        return Together({model_id: self.predictor(model_id) for model_id in model_ids})

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

        importlib.import_module("octa_backend.service.prediction_answer")  # a second that no request should wait for
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


def load_predictor(folder: Path, wanted_device: str, wanted_engine: EngineName = "auto") -> Predictor:
    """Load a published model with the quickest engine that was exported for it; see `open_predictor`."""
    from octa_backend.inference.predictor import open_predictor  # noqa: PLC0415 - imports torch
    from octa_backend.inference.volume_predictor import open_volume_predictor  # noqa: PLC0415

    open_model = open_volume_predictor if spatial_dims(read_card(folder)) == 3 else open_predictor
    return open_model(folder, wanted_device, wanted_engine)
