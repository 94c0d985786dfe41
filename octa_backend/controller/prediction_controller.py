"""Routes under `/predictions`: what was kept of `POST /predict`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator

from octa_backend import errors
from octa_backend.controller.context import Parts, Reading
from octa_backend.controller.dataset_controller import Cursor, Limit
from octa_backend.controller.prediction_schemas import (
    DeletedOut,
    KeptPredictionOut,
    KeptVolumePredictionOut,
    PredictionFacts,
    kept_prediction,
)
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import PageOut, files
from octa_backend.service import prediction_history

router = APIRouter(prefix="/predictions", tags=["prediction"])

ModelId = Annotated[str | None, Query(description="Only those of this model.")]
JobId = Annotated[str | None, Query(description="Only those of this prediction job.")]
WithPictures = Annotated[bool, Query(description="Also send the pictures, in base64.")]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC this is before the year 1 or after the year 9999") from error


Before = Annotated[
    Annotated[datetime, AfterValidator(_in_utc)] | None,
    Query(description="Only those made before this time; UTC where it has no zone."),
]
OfPlane = Literal["axial", "coronal", "sagittal", "axial_projection", "coronal_projection", "sagittal_projection"]
OfScan = Literal["mask", "overlay", "probability", "confidence", "scan", "measurement", "difference"]
Picture = OfScan | OfPlane
Volume = Literal["mask", "probability", "confidence"]
UNCHANGING = {"Cache-Control": "private, max-age=86400"}


@router.get("", summary="List kept predictions, newest first", responses=problems(errors.InvalidCursor))
def list_predictions(
    db: Reading, model_id: ModelId = None, prediction_job_id: JobId = None, limit: Limit = 50, cursor: Cursor = None
) -> PageOut[PredictionFacts]:
    """Of all models, or of one; of all jobs and none, or of one job."""
    page = prediction_history.list_predictions(db, model_id, prediction_job_id, limit, cursor)
    return PageOut(items=[PredictionFacts.of(row) for row in page.rows], next_cursor=page.next_cursor)


@router.delete("", summary="Delete many predictions", responses=problems(errors.InvalidRequest))
def delete_many(parts: Parts, model_id: ModelId = None, before: Before = None) -> DeletedOut:
    """Those of a model, those made before a time, or those that are both; those of jobs that are not over stay."""
    if model_id is None and before is None:
        raise errors.InvalidRequest("say which predictions to delete: model_id=…, before=2026-01-31, or both")
    with parts.database.writing() as session:
        ids = prediction_history.remove_many(session, model_id, before)
    prediction_history.discard(parts.files, ids)
    return DeletedOut(deleted=len(ids))


@router.get(
    "/{prediction_id}",
    response_model=KeptPredictionOut | KeptVolumePredictionOut,
    summary="Show a kept prediction",
    responses=problems(errors.PredictionNotFound),
)
def show(prediction_id: str, db: Reading, parts: Parts, pictures: WithPictures = False) -> JSONResponse:
    """The answer as it was given, with the addresses of its pictures and volumes."""
    row = prediction_history.get(db, prediction_id)
    body = prediction_history.read_answer(parts.files, row.id, pictures)
    drawn = prediction_history.picture_names(parts.files, row.id)
    return JSONResponse(kept_prediction(row, body, drawn, prediction_history.volume_names(parts.files, row.id)))


@router.get(
    "/{prediction_id}/{picture}.png",
    summary="A picture of a kept prediction",
    response_class=Response,
    responses={200: {"content": files("image/png")}, **problems(errors.PredictionNotFound)},
)
def show_picture(prediction_id: str, picture: Picture, db: Reading, parts: Parts) -> Response:
    """Mask, overlay, probability of foreground (grey, 255 for 1), the scan as a preview.

    Where it was asked for, confidence in the class chosen, what was measured, or the difference to the mask that came.
    Of a volume, in one of three planes, the slice through the middle of what was found, or the brightest across it.
    """
    row = prediction_history.get(db, prediction_id)
    path = prediction_history.picture_path(parts.files, row.id, picture)
    return Response(path.read_bytes(), media_type="image/png", headers=UNCHANGING)


@router.get(
    "/{prediction_id}/{volume}.nii.gz",
    summary="A volume of a kept prediction",
    response_class=Response,
    responses={200: {"content": files("application/gzip")}, **problems(errors.PredictionNotFound)},
)
def show_volume(prediction_id: str, volume: Volume, db: Reading, parts: Parts) -> Response:
    """The mask, or what was asked for beside it: probability of each class, or confidence in the class chosen."""
    row = prediction_history.get(db, prediction_id)
    path = prediction_history.volume_path(parts.files, row.id, volume)
    return Response(path.read_bytes(), media_type="application/gzip", headers=UNCHANGING)


@router.delete(
    "/{prediction_id}",
    status_code=204,
    summary="Delete a kept prediction",
    responses=problems(errors.PredictionNotFound, errors.IllegalJobState),
)
def delete(prediction_id: str, parts: Parts) -> None:
    """Its row and its pictures; refused while its job is not over."""
    with parts.database.writing() as session:
        prediction_history.remove_prediction(session, prediction_id)
    prediction_history.discard(parts.files, [prediction_id])
