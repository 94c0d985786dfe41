"""Routes of what a training wrote while it ran: epochs, gradients, log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from octa_backend import errors
from octa_backend.controller.context import Parts, Reading
from octa_backend.controller.dataset_controller import Cursor, Limit
from octa_backend.controller.epoch_schemas import EpochDetail
from octa_backend.controller.gradient_schemas import GradientOut, GradientPointOut, GradientsWish
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import PageOut
from octa_backend.controller.sent_headers import EARLIER
from octa_backend.service import train_service
from octa_backend.service.gradient_points import gradient_points
from octa_backend.service.log_tail import MAX_LINES

router = APIRouter(prefix="/train", tags=["training"])

LogLines = Annotated[int, Query(ge=1, le=MAX_LINES, description="How many of the last lines.")]
LogEnd = Annotated[
    int | None, Query(ge=0, description="Byte of the log before which they stand, as the answer's `Link` names it.")
]


@router.get(
    "/jobs/{job_id}/epochs", summary="The epochs' reports", responses=problems(errors.JobNotFound, errors.InvalidCursor)
)
def epochs(job_id: str, db: Reading, limit: Limit = 100, cursor: Cursor = None) -> PageOut[EpochDetail]:
    """In order, with what was measured of the steps (`signals`): of gradient groups, layers and components."""
    page = train_service.epoch_reports(db, job_id, limit, cursor)
    job = train_service.get(db, job_id)
    return PageOut(items=[EpochDetail.of(row, job) for row in page.rows], next_cursor=page.next_cursor)


@router.get(
    "/jobs/{job_id}/gradients",
    summary="Loss and gradient norms per step",
    responses=problems(errors.JobNotFound, errors.InvalidCursor),
)
def gradients(
    job_id: str, db: Reading, wish: Annotated[GradientsWish, Query()]
) -> PageOut[GradientOut] | PageOut[GradientPointOut]:
    """Pages of single steps in order; with `points` one page, in which each row stands for equally many steps."""
    if wish.points is not None:
        points = gradient_points(db, job_id, wish.points)
        return PageOut(items=[GradientPointOut.of(point) for point in points], next_cursor=None)
    page = train_service.gradient_norms(db, job_id, wish.limit, wish.cursor)
    return PageOut(items=[GradientOut.of(row) for row in page.rows], next_cursor=page.next_cursor)


@router.get(
    "/jobs/{job_id}/log",
    summary="The workers' log",
    response_class=PlainTextResponse,
    responses={200: {"headers": EARLIER}, **problems(errors.JobNotFound)},
)
def log(job_id: str, db: Reading, parts: Parts, tail: LogLines = 2000, before: LogEnd = None) -> PlainTextResponse:
    """The last lines of what the job's workers printed, all attempts in turn; empty before the first one started.

    Where more stands before them, `Link` names it as `rel="prev"`.
    """
    page = train_service.read_log(db, parts.files, job_id, tail, before)
    earlier = {"Link": f'<?tail={tail}&before={page.start}>; rel="prev"'} if page.start else {}
    return PlainTextResponse(page.text, headers=earlier)
