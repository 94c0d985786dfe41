"""`POST /predict`."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octa_backend import errors
from octa_backend.controller.context import Parts
from octa_backend.controller.dataset_controller import multipart
from octa_backend.controller.forms import Form, received_form
from octa_backend.controller.model_schemas import PredictionOut, PredictionsOut
from octa_backend.controller.problems import problems
from octa_backend.service import model_service
from octa_backend.service.predict_service import Answer, PredictOptions

router = APIRouter(tags=["prediction"])


class PredictForm(BaseModel):
    """The form's fields beside its files."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model_id: str | None = None
    """Which model answers; the newest one where neither this nor `job_id` is given."""

    job_id: str | None = None
    """The newest model of this job."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a pixel is foreground (binary models)."""

    tta: bool = False
    """Average over the four flips of the scan: a little better, four times as long."""


FILE_FIELD = {
    "oneOf": [
        {"type": "string", "format": "binary"},
        {"type": "array", "items": {"type": "string", "format": "binary"}},
    ],
    "description": "one scan, or several under the same name",
}
PROPERTIES: dict[str, Any] = {"file": FILE_FIELD, **PredictForm.model_json_schema()["properties"]}


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
async def predict(request: Request, parts: Parts) -> Any:
    """Mask, overlay and confidence of each scan; with `Accept: image/png` and one scan, the mask alone."""
    limit = parts.settings.max_predict_mib * 2**20
    queue = parts.predictions.queue
    queue.require_place()
    async with received_form(request, parts.files, limit) as form:
        with queue.place():
            answers = await to_thread.run_sync(_predict_all, parts, form, limiter=queue.threads)
    if request.headers.get("accept", "").startswith("image/png"):
        if len(answers) != 1:
            raise errors.InvalidRequest(f"Accept: image/png answers one scan; {len(answers)} came")
        return Response(answers[0].mask_png, media_type="image/png")
    bodies = [answer.body for answer in answers]
    return bodies[0] if len(bodies) == 1 else {"predictions": bodies}


def _predict_all(parts: Parts, form: Form) -> list[Answer]:
    try:
        options = PredictForm.model_validate(form.fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise errors.InvalidRequest(faults) from error
    uploads = form.uploads.get("file", [])
    if not 1 <= len(uploads) <= parts.settings.max_predict_files:
        raise errors.InvalidRequest(
            f"send 1 to {parts.settings.max_predict_files} scans as the form's field 'file'; {len(uploads)} came"
        )
    with parts.database.reading() as session:
        model = model_service.find(session, options.model_id, options.job_id)
    chosen = PredictOptions(options.threshold, options.tta)
    return [parts.predictions.predict(model, upload.path, upload.name, chosen) for upload in uploads]
