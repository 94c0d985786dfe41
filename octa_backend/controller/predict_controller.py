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
from octa_backend.controller.predict_forms import PROPERTIES, read_predict_form
from octa_backend.controller.problems import problems
from octa_backend.diagnosis.text import Language
from octa_backend.service import model_service
from octa_backend.service.predict_service import Answer

router = APIRouter(tags=["prediction"])


@router.post(
    "/predict",
    response_model=PredictionOut | PredictionsOut,
    summary="Segment one or more scans",
    responses={
        200: {"content": {"image/png": {}}},
        **problems(
            errors.InvalidRequest,
            errors.UnreadableScan,
            errors.ScanTooLarge,
            errors.InvalidScale,
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
    """Mask, overlay, confidence and measurements; with `Accept: image/png` and one scan, its mask alone."""
    limit = parts.settings.max_predict_mib * 2**20
    queue = parts.predictions.queue
    queue.require_place()
    async with received_form(request, parts.files, limit) as form:
        with queue.place():
            answers = await to_thread.run_sync(_predict_all, parts, form, language, limiter=queue.threads)
    if request.headers.get("accept", "").startswith("image/png"):
        if len(answers) != 1:
            raise errors.InvalidRequest(f"Accept: image/png answers one scan; {len(answers)} came")
        return Response(answers[0].mask_png, media_type="image/png")
    bodies = [answer.body for answer in answers]
    return bodies[0] if len(bodies) == 1 else {"predictions": bodies}


def _predict_all(parts: Parts, form: Form, language: Language) -> list[Answer]:
    fields = read_predict_form(form.fields)
    options = fields.options(language)
    uploads = form.uploads.get("file", [])
    if not 1 <= len(uploads) <= parts.settings.max_predict_files:
        raise errors.InvalidRequest(
            f"send 1 to {parts.settings.max_predict_files} scans as the form's field 'file'; {len(uploads)} came"
        )
    with parts.database.reading() as session:
        model = model_service.find(session, fields.model_id, fields.job_id)
    return [parts.predictions.predict(model, upload.path, upload.name, options) for upload in uploads]
