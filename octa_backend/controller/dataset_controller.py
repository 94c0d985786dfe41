"""Routes under `/datasets`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from octa_backend import errors
from octa_backend.controller.context import Parts, Reader, Reading, get_context
from octa_backend.controller.dataset_schemas import DatasetDiagnosisOut, DatasetOut, RepairStep, RepairWish
from octa_backend.controller.forms import Form, received_form
from octa_backend.controller.json_bodies import JsonRoute
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import PageOut, files
from octa_backend.controller.sent_headers import LOCATION
from octa_backend.service import dataset_service, diagnosis_service, model_service, repair_service
from octa_backend.storage.tables import Dataset

router = APIRouter(prefix="/datasets", tags=["datasets"], route_class=JsonRoute)

UPLOAD_ERRORS = (
    errors.InvalidRequest,
    errors.InvalidArchive,
    errors.UnsafeArchive,
    errors.ArchiveTooLarge,
    errors.UploadTooLarge,
    errors.InvalidDataset,
    errors.StorageFull,
)
FORM_OVERHEAD_BYTES = 2**20

Limit = Annotated[int, Query(ge=1, le=500, description="Rows per page.")]
ReviewModel = Annotated[str | None, Query(description="A model that the masks are held against.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]


def multipart(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The OpenAPI description of a streamed form."""
    schema = {"type": "object", "properties": properties, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


ZIP_FIELD = {"type": "string", "format": "binary", "description": "zip of scans and masks"}


def upload_limit(request: Request) -> int:
    """Most bytes of a request that carries a dataset."""
    return get_context(request).settings.max_upload_mib * 2**20 + FORM_OVERHEAD_BYTES


def take_in(parts: Parts, form: Form) -> Dataset:
    """The form's zip as a dataset."""
    return dataset_service.take_in(parts.database, parts.settings, form.only_file("file"))


@router.post(
    "",
    status_code=201,
    response_model=DatasetOut,
    summary="Upload a zip of scans and masks",
    responses={201: {"headers": LOCATION}, **problems(*UPLOAD_ERRORS)},
    openapi_extra=multipart({"file": ZIP_FIELD}, ["file"]),
)
async def upload(request: Request, parts: Parts, language: Reader, response: Response) -> DatasetOut:
    """Check the zip and keep it as an immutable dataset; the same content again answers with the same `file_id`."""
    async with received_form(request, parts.files, upload_limit(request)) as form:
        dataset = await run_in_threadpool(take_in, parts, form)
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return DatasetOut.of(dataset, language)


@router.get("", summary="List datasets, newest first", responses=problems(errors.InvalidCursor))
def list_datasets(db: Reading, language: Reader, limit: Limit = 50, cursor: Cursor = None) -> PageOut[DatasetOut]:
    """All datasets."""
    page = dataset_service.list_datasets(db, limit, cursor)
    return PageOut(items=[DatasetOut.of(row, language) for row in page.rows], next_cursor=page.next_cursor)


@router.get("/{file_id}", summary="Show a dataset", responses=problems(errors.DatasetNotFound))
def show(file_id: str, db: Reading, language: Reader) -> DatasetOut:
    """One dataset with its findings."""
    return DatasetOut.of(dataset_service.get(db, file_id), language)


@router.get(
    "/{file_id}/diagnosis",
    summary="What the checks say about a dataset",
    responses=problems(errors.DatasetNotFound, errors.ModelNotFound, errors.JobNotFound, errors.ModelDoesNotFit),
)
def diagnosis(file_id: str, parts: Parts, language: Reader, model_id: ReviewModel = None) -> DatasetDiagnosisOut:
    """Findings with their evidence; with `model_id` also a review of the labels, which takes a prediction per scan."""
    with parts.database.reading() as session:
        dataset = dataset_service.get(session, file_id)
        model = model_service.find(session, model_id, None) if model_id else None
    labels = None
    if model is not None:
        labels = diagnosis_service.review_labels(parts.files, dataset, parts.predictions.predictor(model.id))
    return DatasetDiagnosisOut.of(dataset, labels, language)


@router.get(
    "/{file_id}/preview.png",
    summary="Contact sheet: image, mask, overlay",
    response_class=Response,
    responses={200: {"content": files("image/png")}, **problems(errors.DatasetNotFound)},
)
def preview(
    file_id: str, parts: Parts, rows: Annotated[int, Query(ge=1, le=100, description="Scans to show.")] = 12
) -> Response:
    """The scans that the findings name come first."""
    with parts.database.reading() as session:
        dataset = dataset_service.get(session, file_id)
    return Response(diagnosis_service.contact_sheet(parts.files, dataset, rows), media_type="image/png")


@router.post(
    "/{file_id}/repair",
    status_code=201,
    summary="Make a repaired dataset",
    responses={
        201: {"headers": LOCATION},
        **problems(
            errors.DatasetNotFound,
            errors.RemedyNotApplicable,
            errors.InvalidDataset,
            errors.UnreadableScan,
            errors.ArchiveTooLarge,
            errors.UploadTooLarge,
            errors.StorageFull,
        ),
    },
)
def repair(file_id: str, wish: RepairWish, parts: Parts, language: Reader, response: Response) -> DatasetOut:
    """Apply remedies and check the outcome as if it had been uploaded; the old dataset stays."""
    dataset = repair_service.repair(parts.database, parts.settings, file_id, wish.remedies)
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return DatasetOut.of(dataset, language)


@router.get(
    "/{file_id}/repairs",
    summary="What was changed to make a repaired dataset",
    responses=problems(errors.DatasetNotFound, errors.InvalidCursor),
)
def repairs(file_id: str, db: Reading, parts: Parts, limit: Limit = 100, cursor: Cursor = None) -> PageOut[RepairStep]:
    """Scan by scan; empty for a dataset that was uploaded as it is."""
    page = dataset_service.list_repairs(db, parts.files, file_id, limit, cursor)
    return PageOut(items=[RepairStep(**step) for step in page.rows], next_cursor=page.next_cursor)


@router.delete(
    "/{file_id}",
    status_code=204,
    summary="Delete a dataset",
    responses=problems(errors.DatasetNotFound, errors.DatasetInUse),
)
def delete(file_id: str, parts: Parts) -> None:
    """Refused while a job refers to it."""
    with parts.database.writing() as session:
        dataset_service.remove_dataset(session, file_id)
    dataset_service.discard_files(parts.database, parts.files, file_id)
