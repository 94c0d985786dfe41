"""`POST /predict`."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from octa_backend import errors
from octa_backend.controller.context import Parts, Reader
from octa_backend.controller.dataset_controller import multipart
from octa_backend.controller.forms import Form, received_form
from octa_backend.controller.model_schemas import PredictionOut, PredictionsOut
from octa_backend.controller.predict_forms import LISTS, PROPERTIES, read_predict_form, scans_and_masks
from octa_backend.controller.problems import problems
from octa_backend.controller.volume_predictions import are_volumetric, predict_cases, volume_response
from octa_backend.controller.volume_schemas import VolumePredictionOut, VolumePredictionsOut
from octa_backend.diagnosis.text import Language
from octa_backend.service import model_service
from octa_backend.service.predict_service import Answer
from octa_backend.service.volume_prediction import VolumeAnswer

router = APIRouter(tags=["prediction"])


@router.post(
    "/predict",
    response_model=PredictionOut | PredictionsOut | VolumePredictionOut | VolumePredictionsOut,
    summary="Segment one or more scans",
    responses={
        200: {"content": {"image/png": {}, "application/gzip": {}, "application/octet-stream": {}}},
        **problems(
            errors.InvalidRequest,
            errors.UnreadableScan,
            errors.ScanTooLarge,
            errors.InvalidScale,
            errors.InvalidOptions,
            errors.ScanDoesNotFit,
            errors.MaskDoesNotFit,
            errors.InvalidArchive,
            errors.UnsafeArchive,
            errors.ArchiveTooLarge,
            errors.ModelsDiffer,
            errors.NoTunedThreshold,
            errors.UploadTooLarge,
            errors.ModelNotFound,
            errors.JobNotFound,
            errors.NoModelYet,
            errors.StorageFull,
            errors.TooManyPredictions,
        ),
    },
    openapi_extra=multipart(PROPERTIES, ["file"]),
)
async def predict(request: Request, parts: Parts, language: Reader) -> Any:
    """Mask, overlay, confidence, measurements, warnings; with `Accept: image/png` and one scan, its mask alone.

    Of a model of volumes: the files of one or more cases, or a zip of one; with `Accept: application/gzip`, the mask.
    """
    limit = parts.settings.max_predict_mib * 2**20
    queue = parts.predictions.queue
    queue.require_place()
    async with received_form(request, parts.files, limit, LISTS) as form:
        with queue.place():
            answers = await to_thread.run_sync(_predict_all, parts, form, language, limiter=queue.threads)
    if isinstance(answers, tuple):
        return volume_response(request, answers)
    if request.headers.get("accept", "").startswith("image/png"):
        if len(answers) != 1:
            raise errors.InvalidRequest(f"Accept: image/png answers one scan; {len(answers)} came")
        return Response(answers[0].mask_png, media_type="image/png")
    bodies = [answer.body for answer in answers]
    return bodies[0] if len(bodies) == 1 else {"predictions": bodies}


def _predict_all(parts: Parts, form: Form, language: Language) -> list[Answer] | tuple[VolumeAnswer, ...]:
    fields = read_predict_form(form.fields)
    options = fields.options(language)
    with parts.database.reading() as session:
        found = [model_service.get(session, one) for one in fields.model_ids()]
        found = found or [model_service.find(session, None, fields.job_id)]
        models, volumetric = [model.id for model in found], are_volumetric(found, form)
    if volumetric:
        return predict_cases(parts, models, form, options)
    pairs = scans_and_masks(form.uploads, parts.settings.max_predict_files)
    return [parts.predictions.predict(models, scan, options, mask) for scan, mask in pairs]
