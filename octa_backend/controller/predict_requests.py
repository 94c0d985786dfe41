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
from octa_backend.controller.volume_predictions import are_volumetric
from octa_backend.data.scan_files import is_zip
from octa_backend.diagnosis.text import Language
from octa_backend.service import model_service, prediction_history, prediction_job_service
from octa_backend.service.predict_service import Answer, ImageFile, PredictOptions
from octa_backend.service.prediction_history import Scanned
from octa_backend.settings import Settings
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
        is_volumetric: the models are of volumes; several of the scans may be one case.
    """

    model_ids: Sequence[str]
    options: PredictOptions
    uploads: Sequence[Upload]
    masks: Sequence[Upload]
    is_job: bool
    is_kept: bool
    is_volumetric: bool = False


def most_bytes(settings: Settings) -> int:
    """Most bytes of a request: a zip of scans may be as large as one of a dataset."""
    return max(settings.max_predict_mib, settings.max_upload_mib) * 2**20 + FORM_OVERHEAD_BYTES


def read_request(parts: Context, form: Form, language: Language) -> PredictRequest:
    """Read the form, and find the model.

    Raises:
        InvalidRequest: no scan came, a field is wrong, or a job shall leave no trace or compare with masks.
        InvalidOptions: masks came, but not one for each scan.
        UploadTooLarge: it is to be answered at once and is larger than that allows.
        ModelNotFound, JobNotFound, NoModelYet: there is no such model.
        ScanDoesNotFit: a volume came for models of pictures.
    """
    fields, settings = read_predict_form(form.fields), parts.settings
    options = fields.options(language)
    named: Sequence[str | None] = fields.model_ids() or [None]
    with parts.database.reading() as session:
        models = [model_service.find(session, model_id, fields.job_id) for model_id in named]
    model_ids = [model.id for model in models]
    if are_volumetric(models, form):
        return _cases(fields, options, model_ids, form, settings)
    uploads, masks = scans_and_masks(form.uploads, settings.max_predict_files)
    has_zip = any(is_zip(upload.path, upload.name) for upload in uploads)
    is_job = fields.batch or has_zip or len(uploads) > settings.max_predict_files
    if is_job and not fields.keep:
        raise errors.InvalidRequest(
            "a prediction job keeps its results until it is deleted; leave keep=false out, or send up to "
            f"{settings.max_predict_files} scans without batch=true"
        )
    if is_job and masks:
        raise errors.InvalidRequest(
            "a prediction job compares with no masks; leave 'mask' out, or send up to "
            f"{settings.max_predict_files} scans without batch=true"
        )
    if not is_job and sum(upload.size_bytes for upload in uploads) > settings.max_predict_mib * 2**20:
        raise too_large(settings.max_predict_mib * 2**20)
    return PredictRequest(model_ids, options, uploads, masks, is_job, fields.keep and settings.predictions_kept > 0)


def _cases(
    fields: PredictForm, options: PredictOptions, model_ids: Sequence[str], form: Form, settings: Settings
) -> PredictRequest:
    """What models of volumes are asked."""
    uploads = form.uploads.get("file", [])
    if fields.batch:
        raise errors.InvalidRequest("prediction jobs are of pictures; leave batch=true out and send volumes by case")
    if not 1 <= len(uploads) <= settings.max_predict_files:
        raise errors.InvalidRequest(
            f"send 1 to {settings.max_predict_files} files as the form's field 'file'; {len(uploads)} came"
        )
    is_kept = fields.keep and settings.predictions_kept > 0
    return PredictRequest(model_ids, options, uploads, form.uploads.get("mask", []), False, is_kept, is_volumetric=True)


def predict_all(parts: Context, wanted: PredictRequest) -> list[Answer]:
    """Predict each scan; keep all of the predictions once none has failed."""
    scans, masks = ([ImageFile(one.path, one.name) for one in sent] for sent in (wanted.uploads, wanted.masks))
    answers = [
        parts.predictions.predict(wanted.model_ids, scan, wanted.options, mask, for_history=wanted.is_kept)
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
    job = prediction_job_service.start(parts.database, parts.settings, wanted.model_ids, wanted.uploads, wanted.options)
    parts.prediction_runner.wake()
    started = StartedPredictionJob.of(job)
    return JSONResponse(started.model_dump(), 202, {"Location": started.progress_url})
