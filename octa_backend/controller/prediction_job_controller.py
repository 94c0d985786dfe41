"""Routes under `/predictions/jobs`: many scans, predicted in the background."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from octa_backend import errors
from octa_backend.controller.context import Parts, Reading, Writing
from octa_backend.controller.dataset_controller import Cursor, Limit
from octa_backend.controller.prediction_schemas import PredictionJobDetail, PredictionJobOut
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import PageOut, files
from octa_backend.controller.sent_headers import FILE_NAME
from octa_backend.service import prediction_history, prediction_job_service, prediction_results
from octa_backend.storage.files import discard
from octa_backend.storage.tables import JobState

router = APIRouter(prefix="/predictions/jobs", tags=["prediction"])

MAX_FAILED_FILES = 100
State = Annotated[JobState | None, Query(description="Only jobs in this state.")]


@router.get("", summary="List prediction jobs, newest first", responses=problems(errors.InvalidCursor))
def list_jobs(db: Reading, state: State = None, limit: Limit = 50, cursor: Cursor = None) -> PageOut[PredictionJobOut]:
    """Of all states, or of one."""
    page = prediction_job_service.list_jobs(db, state, limit, cursor)
    return PageOut(items=[PredictionJobOut.of(row) for row in page.rows], next_cursor=page.next_cursor)


@router.get("/{prediction_job_id}", summary="Poll a prediction job", responses=problems(errors.PredictionJobNotFound))
def show(prediction_job_id: str, db: Reading) -> PredictionJobDetail:
    """State, how many scans are done, how long the others take, and the first hundred that failed."""
    job = prediction_job_service.get(db, prediction_job_id)
    return PredictionJobDetail.of_rows(job, prediction_job_service.failures(db, job.id, MAX_FAILED_FILES))


@router.post(
    "/{prediction_job_id}/cancel",
    summary="Cancel a prediction job",
    responses=problems(errors.PredictionJobNotFound, errors.IllegalJobState),
)
def cancel(prediction_job_id: str, db: Writing) -> PredictionJobOut:
    """A waiting job at once, a running one after its present scan; what is predicted stays."""
    return PredictionJobOut.of(prediction_job_service.request_cancel(db, prediction_job_id))


@router.get(
    "/{prediction_job_id}/results.zip",
    summary="Download the results of a prediction job",
    response_class=StreamingResponse,
    responses={
        200: {"content": files("application/zip"), "headers": FILE_NAME},
        **problems(errors.PredictionJobNotFound, errors.IllegalJobState),
    },
)
def results(prediction_job_id: str, parts: Parts) -> StreamingResponse:
    """Masks, overlays and tables; of a job that failed or was cancelled, of what was predicted until then."""
    pieces = prediction_results.results(parts.database, parts.files, prediction_job_id)
    named = {"Content-Disposition": f'attachment; filename="predictions-{prediction_job_id}.zip"'}
    return StreamingResponse(pieces, media_type="application/zip", headers=named)


@router.delete(
    "/{prediction_job_id}",
    status_code=204,
    summary="Delete a prediction job",
    responses=problems(errors.PredictionJobNotFound, errors.IllegalJobState),
)
def delete(prediction_job_id: str, parts: Parts) -> None:
    """With its predictions; refused while it is not over."""
    with parts.database.writing() as session:
        ids = prediction_job_service.remove_job(session, prediction_job_id)
    prediction_history.discard(parts.files, ids)
    discard(parts.files.prediction_job(prediction_job_id))
