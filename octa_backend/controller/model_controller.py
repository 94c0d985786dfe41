"""Routes under `/models`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse

from octa_backend import errors
from octa_backend.controller.context import Parts, Reading
from octa_backend.controller.model_schemas import ModelOut
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import files
from octa_backend.controller.sent_headers import FILE_NAME
from octa_backend.inference.export_record import ExportFormat
from octa_backend.service import export_service, model_service
from octa_backend.storage.files import discard, set_aside

router = APIRouter(prefix="/models", tags=["models"])


def being_read(model_id: str, parts: Parts) -> Iterator[None]:
    """The model is not deleted before its files are sent."""
    with parts.predictions.in_use.using([model_id], "a download"):
        yield


@router.get("/{model_id}", summary="Show a model", responses=problems(errors.ModelNotFound))
def show(model_id: str, db: Reading) -> ModelOut:
    """Its card: network, plan, dataset, test scores; of an ensemble, its members."""
    return ModelOut.of(model_service.get(db, model_id))


@router.get(
    "/{model_id}/export",
    summary="Download a model for other programs",
    dependencies=[Depends(being_read)],
    response_class=FileResponse,
    responses={
        200: {"content": files("application/zip"), "headers": FILE_NAME},
        **problems(errors.ModelNotFound, errors.ExportFailed, errors.IncompatibleCheckpoint),
    },
)
def export(
    model_id: str,
    parts: Parts,
    wanted: Annotated[ExportFormat, Query(alias="format", description="of the graph")],
) -> FileResponse:
    """A zip with the graph, its `export.json` and the card. Made at the first call, which takes a while; then kept."""
    with parts.database.reading() as session:
        model_service.get(session, model_id)
    path = export_service.export_archive(parts.predictions.exporter, parts.files.model(model_id), wanted)
    return FileResponse(path, media_type="application/zip", filename=f"{model_id}-{wanted}.zip")


@router.delete(
    "/{model_id}",
    status_code=204,
    summary="Delete a model",
    responses=problems(errors.ModelNotFound, errors.ModelInUse),
)
def delete(model_id: str, parts: Parts) -> None:
    """Refused while an ensemble, a waiting or running job, a prediction, a download or a comparison needs it.

    Its job stays.
    """
    parts.predictions.in_use.require_idle(model_id)
    with parts.database.writing() as session:
        model_service.forget(session, model_id)
    parts.predictions.forget(model_id)
    discard(set_aside(parts.files.model(model_id)))
