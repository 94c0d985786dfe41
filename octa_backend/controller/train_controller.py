"""Routes under `/train`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from octa_backend import errors
from octa_backend.controller import job_events
from octa_backend.controller.config_forms import LISTS, StartRequest, start_from_body, start_from_fields
from octa_backend.controller.context import Parts, Reader, Reading, Writing
from octa_backend.controller.dataset_controller import (
    UPLOAD_ERRORS,
    ZIP_FIELD,
    Cursor,
    Limit,
    multipart,
    upload_limit,
)
from octa_backend.controller.forms import Form, received_form
from octa_backend.controller.job_schemas import JobDetail, JobOut, ProgressOut, ResumeChanges, StartedJob, progress_url
from octa_backend.controller.json_bodies import JsonRoute
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import PageOut
from octa_backend.controller.sent_headers import ETAG, LOCATION
from octa_backend.service import fold_service, remedy_service, start_service, train_service
from octa_backend.service.paging import MAX_WHOLE
from octa_backend.service.start_service import Started, StartOptions
from octa_backend.storage.files import discard, set_aside
from octa_backend.storage.tables import JobState
from octa_backend.training.config import TrainConfig

router = APIRouter(prefix="/train", tags=["training"], route_class=JsonRoute)

CONFIG_PROPERTIES: dict[str, Any] = {
    **TrainConfig.model_json_schema()["properties"],
    **StartOptions.model_json_schema()["properties"],
}
CONFIG_FIELD = {"type": "string", "description": "the whole configuration as JSON, in place of single fields"}
CONFIG_BODY = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": CONFIG_PROPERTIES},
                "example": {"epochs": 12, "lr": 0.0005, "model": "unet_transformer"},
            },
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {**CONFIG_PROPERTIES, "config": CONFIG_FIELD}}
            },
        }
    }
}


def _answer(parts: Parts, started: Started, response: Response) -> StartedJob:
    parts.supervisor.wake()
    response.headers["Location"] = progress_url(started.job.id)
    return StartedJob.of(started.job, started.repairs, started.config_changes)


@router.post(
    "/start-with-file",
    status_code=202,
    response_model=StartedJob,
    summary="Upload a zip and train on it",
    responses={202: {"headers": LOCATION}, **problems(*UPLOAD_ERRORS, errors.InvalidConfig)},
    openapi_extra=multipart({"file": ZIP_FIELD, **CONFIG_PROPERTIES, "config": CONFIG_FIELD}, ["file"]),
)
async def start_with_file(request: Request, parts: Parts, response: Response) -> StartedJob:
    """Check the zip, queue a training on it, and answer where to poll it.

    Errors in the data stop it, unless `repair=auto` mends them or `force=true` says to train all the same.
    """
    async with received_form(request, parts.files, upload_limit(request), LISTS) as form:
        wanted = start_from_fields(form.fields)
        started = await run_in_threadpool(_start_with_upload, parts, form, wanted)
    return _answer(parts, started, response)


def _start_with_upload(parts: Parts, form: Form, wanted: StartRequest) -> Started:
    upload = form.only_file("file")
    return start_service.start_with_upload(parts.database, parts.settings, upload, wanted.config, wanted.options)


@router.post(
    "/start-with-file/{file_id}",
    status_code=202,
    response_model=StartedJob,
    summary="Train on an uploaded dataset",
    responses={
        202: {"headers": LOCATION},
        **problems(
            errors.DatasetNotFound,
            errors.InvalidConfig,
            errors.InvalidDataset,
            errors.InvalidRequest,
            errors.RemedyNotApplicable,
            errors.StorageFull,
            errors.UploadTooLarge,
        ),
    },
    openapi_extra=CONFIG_BODY,
)
async def start_with_dataset(file_id: str, request: Request, parts: Parts, response: Response) -> StartedJob:
    """Queue a training; the configuration comes as a form or as JSON, or not at all.

    Errors in the data stop it, unless `repair=auto` mends them or `force=true` says to train all the same.
    """
    wanted = await start_from_body(request)
    started = await run_in_threadpool(
        start_service.start_with_dataset, parts.database, parts.settings, file_id, wanted.config, wanted.options
    )
    return _answer(parts, started, response)


@router.get(
    "/progress/{job_id}",
    summary="Poll a job",
    response_model=ProgressOut,
    responses={
        200: {"headers": ETAG},
        304: {"description": "Nothing changed since `If-None-Match`.", "headers": ETAG},
        **problems(errors.JobNotFound),
    },
)
def progress(
    job_id: str,
    db: Reading,
    language: Reader,
    since_epoch: Annotated[
        int | None, Query(ge=0, le=MAX_WHOLE, description="Also send the reports after this epoch.")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """State, latest and best epoch, findings and queue position; `ETag` changes when any of it does."""
    found = train_service.progress(db, job_id, since_epoch)
    children = tuple(child.version for child in found.children)
    facts = (job_id, found.job.version, children, found.queue_position, since_epoch, language)
    etag = f'"{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept-Language"}
    known = (if_none_match or "").strip()
    if known == "*" or etag in known:
        return Response(status_code=304, headers=headers)
    body = ProgressOut.of(found, language).model_dump_json()
    return Response(body, media_type="application/json", headers=headers)


@router.get("/jobs", summary="List jobs, newest first", responses=problems(errors.InvalidCursor))
def list_jobs(db: Reading, state: JobState | None = None, limit: Limit = 50, cursor: Cursor = None) -> PageOut[JobOut]:
    """All jobs, or those of one state."""
    page = train_service.list_jobs(db, state, limit, cursor)
    return PageOut(items=[JobOut.of(job) for job in page.rows], next_cursor=page.next_cursor)


@router.get("/jobs/{job_id}", summary="Show a job", responses=problems(errors.JobNotFound))
def show(job_id: str, db: Reading) -> JobDetail:
    """Config, plan with reasons, attempts, the folds of a cross-validation, and what remedies made of it."""
    job, children = train_service.get(db, job_id), fold_service.folds_of(db, job_id)
    return JobDetail.of_rows(job, train_service.attempts(db, job_id), children, remedy_service.remedied(db, job))


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    summary="Delete a job",
    responses=problems(errors.JobNotFound, errors.IllegalJobState),
)
def delete(job_id: str, parts: Parts) -> None:
    """Refused while it runs; its published model stays. The folds of a cross-validation go with it."""
    with parts.database.writing() as session:
        ids = train_service.remove(session, job_id)
    for gone in ids:
        discard(set_aside(parts.files.job(gone)))


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job by Server-Sent Events",
    response_class=EventSourceResponse,
    responses=problems(errors.JobNotFound, errors.InvalidCursor),
)
async def events(parts: Parts, start: job_events.Start, language: Reader) -> AsyncIterator[ServerSentEvent]:
    """`epoch`, `finding` and `state` events until the job is over; `Last-Event-ID` goes on where a client left."""
    async for event in job_events.follow(parts.database, start, language):
        yield event


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    summary="Ask a job to stop",
    responses=problems(errors.JobNotFound, errors.IllegalJobState),
)
def cancel(job_id: str, db: Writing) -> JobOut:
    """A waiting job is cancelled at once, a running one stops at its next batch and keeps its best model."""
    return JobOut.of(train_service.request_cancel(db, job_id))


@router.post(
    "/jobs/{job_id}/remedies/{code}",
    status_code=202,
    summary="Apply a remedy of the training doctor",
    responses={
        202: {"headers": LOCATION},
        **problems(
            errors.JobNotFound,
            errors.NoDiagnosisYet,
            errors.RemedyNotApplicable,
            errors.IllegalJobState,
            errors.InvalidConfig,
            errors.InvalidDataset,
            errors.ArchiveTooLarge,
            errors.UploadTooLarge,
            errors.StorageFull,
        ),
    },
)
def apply_remedy(job_id: str, code: str, parts: Parts, response: Response) -> StartedJob:
    """Queue a new job with the remedy's changes, its parent this one; from its weights where the remedy says so.

    A remedy of the dataset repairs it first; the new job trains on the repaired one, whose `file_id` it names.
    """
    job = remedy_service.apply(parts.database, parts.settings, job_id, code)
    parts.supervisor.wake()
    response.headers["Location"] = progress_url(job.id)
    return StartedJob.of(job)


@router.post(
    "/jobs/{job_id}/resume",
    status_code=202,
    summary="Go on from the last checkpoint",
    responses={
        202: {"headers": LOCATION},
        **problems(errors.JobNotFound, errors.IllegalJobState, errors.InvalidConfig, errors.UploadTooLarge),
    },
)
def resume(job_id: str, parts: Parts, response: Response, changes: ResumeChanges | None = None) -> StartedJob:
    """Queue a job that is over again, optionally with more `epochs` or another `lr`."""
    given = {} if changes is None else json.loads(changes.model_dump_json(exclude_none=True))
    with parts.database.writing() as session:
        job = train_service.resume(session, job_id, given)
    parts.supervisor.wake()
    response.headers["Location"] = progress_url(job_id)
    return StartedJob.of(job)
