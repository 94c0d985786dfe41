"""What a request of `POST /predict` wants, and the two ways of doing it: at once, or as a prediction job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from fastapi.responses import JSONResponse

from octa_backend import errors
from octa_backend.controller.context import Context
from octa_backend.controller.dataset_controller import FORM_OVERHEAD_BYTES
from octa_backend.controller.forms import Form, too_large
from octa_backend.controller.predict_forms import PredictForm, read_predict_form, scans_and_masks
from octa_backend.controller.prediction_schemas import StartedPredictionJob, prediction_url
from octa_backend.controller.volume_predictions import are_volumetric, image_files
from octa_backend.data.scan_files import is_zip
from octa_backend.data.volume_case import Channels
from octa_backend.diagnosis.text import Language
from octa_backend.service import model_service, prediction_history, prediction_job_service
from octa_backend.service.predict_service import Answer, Extent, ImageFile, PredictOptions
from octa_backend.service.prediction_history import Scanned
from octa_backend.service.volume_options import refuse_options_of_pictures
from octa_backend.service.volume_prediction import channels_of, opened_cases
from octa_backend.settings import Settings
from octa_backend.storage.tables import Model
from octa_backend.storage.uploads import Upload


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What came.

    Attributes:
        model_ids: of the models that answer together.
        options: of each prediction.
        uploads: the scans, or the zip.
        masks: the known mask of each scan, or none.
        is_job: predict in the background.
        is_kept: keep the predictions in the history.
        channels: of models of volumes, of which several of the scans may be one case; None of models of pictures.
        cases: how many cases of volumes the scans are.
    """

    model_ids: Sequence[str]
    options: PredictOptions
    uploads: Sequence[Upload]
    masks: Sequence[Upload]
    is_job: bool
    is_kept: bool
    channels: Channels | None = None
    cases: int = 0

    @property
    def is_volumetric(self) -> bool:
        """Whether the models are of volumes."""
        return self.channels is not None


def most_bytes(settings: Settings) -> int:
    """Most bytes of a request: a zip of scans may be as large as one of a dataset."""
    return max(settings.max_predict_mib, settings.max_upload_mib) * 2**20 + FORM_OVERHEAD_BYTES


def read_request(parts: Context, form: Form, language: Language) -> PredictRequest:
    """Read the form, and find the model.

    Raises:
        InvalidRequest: no scan came, or a file under another name, a field is wrong, or a job shall leave no trace or
            compare with masks.
        InvalidOptions: masks came, but not one for each scan.
        UploadTooLarge: it is to be answered at once and is larger than that allows.
        ModelNotFound, JobNotFound, NoModelYet: there is no such model.
        ScanDoesNotFit: a volume came for models of pictures, or the volumes are no cases of the models.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: a zip of volumes is refused.
    """
    fields, settings = read_predict_form(form.filled), parts.settings
    form.refuse_files_but("file", "mask", what="send scans as 'file', masks as 'mask'")
    options = fields.options(language)
    named: Sequence[str | None] = fields.model_ids() or [None]
    with parts.database.reading() as session:
        models = [model_service.find(session, model_id, fields.job_id) for model_id in named]
    model_ids = [model.id for model in models]
    if are_volumetric(models, form):
        return _cases(fields, options, models, form, settings)
    uploads, masks = scans_and_masks(form, settings.max_predict_files)
    has_zip = any(is_zip(upload.path, upload.name) for upload in uploads)
    is_job = fields.batch or has_zip or len(uploads) > settings.max_predict_files
    if is_job:
        _require_fit_for_job(fields, masks, f"up to {settings.max_predict_files} scans")
    if not is_job:
        _require_small(uploads, settings)
    return PredictRequest(model_ids, options, uploads, masks, is_job, fields.keep and settings.predictions_kept > 0)


def _require_small(uploads: Sequence[Upload], settings: Settings) -> None:
    """Refuse scans that are too large to be answered at once."""
    if sum(upload.size_bytes for upload in uploads) > settings.max_predict_mib * 2**20:
        raise too_large(settings.max_predict_mib * 2**20, "the most that is answered at once; send it with batch=true")


def _require_fit_for_job(fields: PredictForm, masks: Sequence[Upload], at_once: str) -> None:
    """Refuse what goes only with scans that are answered at once, of which `at_once` says how many."""
    if not fields.keep:
        raise errors.InvalidRequest(
            "a prediction job keeps its results until it is deleted; leave keep=false out, or send "
            f"{at_once} without batch=true"
        )
    if masks:
        raise errors.InvalidRequest(
            f"a prediction job compares with no masks; leave 'mask' out, or send {at_once} without batch=true"
        )


def _cases(
    fields: PredictForm, options: PredictOptions, models: Sequence[Model], form: Form, settings: Settings
) -> PredictRequest:
    """What models of volumes are asked: one case is answered at once, more of them are a job."""
    uploads, masks = form.uploads.get("file", []), form.uploads.get("mask", [])
    if not uploads:
        raise errors.InvalidRequest(
            "send the files of one case as the form's field 'file'; 0 came. More cases, or a zip of them, become a "
            "prediction job"
        )
    refuse_options_of_pictures(options)
    channels, model_ids = channels_of(models), [model.id for model in models]
    with opened_cases(image_files(uploads), channels, settings) as files:
        cases = len(files.cases)
    is_job = fields.batch or cases > 1
    if is_job:
        _require_fit_for_job(fields, masks, "one case")
    else:
        _require_small(uploads, settings)
    is_kept = fields.keep and settings.predictions_kept > 0
    return PredictRequest(model_ids, options, uploads, masks, is_job, is_kept, channels, cases)


def predict_all(parts: Context, wanted: PredictRequest, *, masks_alone: bool) -> list[Answer]:
    """Predict each scan; keep all of the predictions once none has failed.

    Args:
        parts: of the server.
        wanted: the scans, and how.
        masks_alone: nothing is answered but the masks' files.
    """
    extent: Extent = "kept" if wanted.is_kept else "mask" if masks_alone else "answer"
    scans, masks = ([ImageFile(one.path, one.name) for one in sent] for sent in (wanted.uploads, wanted.masks))
    answers = [
        parts.predictions.predict(wanted.model_ids, scan, wanted.options, mask, extent)
        for scan, mask in zip(scans, masks or repeat(None, len(scans)), strict=True)
    ]
    if wanted.is_kept:
        scanned = [Scanned(answer, upload.sha256) for answer, upload in zip(answers, wanted.uploads, strict=True)]
        prediction_history.keep(parts.database, parts.files, scanned, parts.settings.predictions_kept)
    return answers


def kept_at(wanted: PredictRequest, answer: Answer) -> str | None:
    """The address of a prediction, or None where it is not kept."""
    return prediction_url(answer.body["prediction_id"]) if wanted.is_kept else None


def start_job(parts: Context, wanted: PredictRequest) -> JSONResponse:
    """Queue the scans, and answer where to poll them."""
    given = (wanted.model_ids, wanted.uploads, wanted.options, wanted.channels)
    job = prediction_job_service.start(parts.database, parts.settings, *given)
    parts.prediction_runner.wake()
    started = StartedPredictionJob.of(job)
    return JSONResponse(started.model_dump(), 202, {"Location": started.progress_url})
