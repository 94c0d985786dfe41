"""`POST /predict`."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octa_backend import errors
from octa_backend.controller.context import Parts, Reader
from octa_backend.controller.dataset_controller import multipart
from octa_backend.controller.forms import Form, received_form
from octa_backend.controller.model_schemas import PredictionOut, PredictionsOut
from octa_backend.controller.problems import problems
from octa_backend.diagnosis.text import Language
from octa_backend.inference.scale import MeasureOptions
from octa_backend.service import model_service
from octa_backend.service.predict_service import Answer, PredictOptions

router = APIRouter(tags=["prediction"])

MAX_PIXEL_SIZE_UM = 1000.0
MAX_FIELD_OF_VIEW_MM = 100.0
"""Wider than any eye: a value above was given in another unit."""

MEASURE_FIELDS = {"pixel_size_um", "field_of_view_mm", "vessel_class", "measure_segments", "measure_picture"}


class PredictForm(BaseModel):
    """The form's fields beside its files."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model_id: str | None = None
    """Which model answers; the default model where neither this nor `job_id` is given."""

    job_id: str | None = None
    """The newest model of this job."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a pixel is foreground (binary models)."""

    tta: bool = False
    """Average over the four flips of the scan: a little better, four times as long."""

    measure: bool = True
    """Measure the vessels of the mask."""

    pixel_size_um: float | None = Field(default=None, gt=0, le=MAX_PIXEL_SIZE_UM)
    """Side of a pixel in µm; measurements are in µm and mm then, else in pixels."""

    field_of_view_mm: float | None = Field(default=None, gt=0, le=MAX_FIELD_OF_VIEW_MM)
    """Width of the scan in mm, in place of `pixel_size_um`."""

    vessel_class: int = Field(default=1, ge=1)
    """Which class of the mask is vessel."""

    measure_segments: bool = False
    """Also list the length and tortuosity of each vessel segment."""

    measure_picture: bool = False
    """Also draw centre lines, branch and end points and the foveal avascular zone onto the scan."""

    def options(self, language: Language) -> PredictOptions:
        """What the service does.

        Raises:
            InvalidRequest: something is to be measured in some way, but nothing is to be measured.
            InvalidScale: both sizes are given.
        """
        if not self.measure:
            if idle := sorted(self.model_fields_set & MEASURE_FIELDS):
                raise errors.InvalidRequest(f"with measure=false nothing is measured; leave out {', '.join(idle)}")
            return PredictOptions(self.threshold, self.tta)
        measuring = MeasureOptions(self.pixel_size_um, self.field_of_view_mm, self.vessel_class)
        return PredictOptions(
            self.threshold, self.tta, measuring, self.measure_segments, self.measure_picture, language
        )


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
    try:
        fields = PredictForm.model_validate(form.fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise errors.InvalidRequest(faults) from error
    options = fields.options(language)
    uploads = form.uploads.get("file", [])
    if not 1 <= len(uploads) <= parts.settings.max_predict_files:
        raise errors.InvalidRequest(
            f"send 1 to {parts.settings.max_predict_files} scans as the form's field 'file'; {len(uploads)} came"
        )
    with parts.database.reading() as session:
        model = model_service.find(session, fields.model_id, fields.job_id)
    return [parts.predictions.predict(model, upload.path, upload.name, options) for upload in uploads]
