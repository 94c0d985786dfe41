"""Models on their way out and in: `GET /models/{model_id}/download` and `POST /models/import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from octa_backend import errors
from octa_backend.controller.context import Parts
from octa_backend.controller.dataset_controller import FORM_OVERHEAD_BYTES, multipart
from octa_backend.controller.forms import Form, received_form
from octa_backend.controller.model_controller import being_read
from octa_backend.controller.model_schemas import ModelOut
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import files
from octa_backend.controller.sent_headers import FILE_NAME, LOCATION
from octa_backend.service import model_import, model_service, model_shelf
from octa_backend.service.import_wish import ImportWish, read_wish
from octa_backend.service.model_package import write_package
from octa_backend.storage.files import discard, disk_full_explained
from octa_backend.storage.tables import Model

router = APIRouter(prefix="/models", tags=["models"])

MODEL_FIELD = {"type": "string", "format": "binary", "description": "a package, or weights"}
PROPERTIES: dict[str, Any] = {"file": MODEL_FIELD, **ImportWish.model_json_schema()["properties"]}


@router.post(
    "/import",
    status_code=201,
    response_model=ModelOut,
    summary="Put a model from elsewhere on the shelf",
    responses={
        201: {"headers": LOCATION},
        **problems(
            errors.InvalidRequest,
            errors.UploadTooLarge,
            errors.InvalidArchive,
            errors.UnsafeArchive,
            errors.ArchiveTooLarge,
            errors.InvalidModel,
            errors.UnknownNetwork,
            errors.StorageFull,
        ),
    },
    openapi_extra=multipart(PROPERTIES, ["file"]),
)
async def import_model(request: Request, parts: Parts, response: Response) -> ModelOut:
    """A package as `download` gives it, or weights with the name of their network; nothing in the file is run."""
    limit = parts.settings.max_model_mib * 2**20 + FORM_OVERHEAD_BYTES
    async with received_form(request, parts.files, limit) as form:
        model = await run_in_threadpool(_take_in, parts, form)
    response.headers["Location"] = f"/models/{model.id}"
    return ModelOut.of(model)


def _take_in(parts: Parts, form: Form) -> Model:
    return model_import.take_in(parts.database, parts.settings, form.only_file("file"), read_wish(form.filled))


class _PassingFile(FileResponse):
    """A file that is removed after it was sent, also where a range that was asked for is refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await run_in_threadpool(discard, Path(self.path))


@router.get(
    "/{model_id}/download",
    summary="Download a model with everything to run it",
    dependencies=[Depends(being_read)],
    response_class=FileResponse,
    responses={
        200: {"content": files("application/zip"), "headers": FILE_NAME},
        **problems(errors.ModelNotFound, errors.IncompatibleCheckpoint, errors.StorageFull),
    },
)
def download(model_id: str, parts: Parts) -> FileResponse:
    """A zip with weights, card, checked graphs and a script. Graphs are made at the first call, which takes a while."""
    with parts.database.reading() as session:
        card = model_shelf.whole_card(model_service.get(session, model_id))
    path = parts.files.new_upload()
    try:
        with disk_full_explained(parts.files):
            write_package(parts.predictions.exporter, parts.files.model(model_id), card, path)
    except BaseException:
        discard(path)
        raise
    return _PassingFile(path, media_type="application/zip", filename=f"{model_id}.zip")
