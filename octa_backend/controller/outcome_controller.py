"""Routes of what a training came to: the doctor's diagnosis and letter, and the report."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from octa_backend import errors
from octa_backend.controller.context import Parts, Reader, Reading
from octa_backend.controller.diagnosis_schemas import JobDiagnosisOut
from octa_backend.controller.problems import problems
from octa_backend.controller.report_schemas import ReportOut
from octa_backend.controller.sent_headers import FILE_NAME
from octa_backend.service import report_service, run_doctor
from octa_backend.service.report_service import REPORT_HTML, REPORT_JSON

router = APIRouter(prefix="/train", tags=["training"])


class MarkdownResponse(PlainTextResponse):
    """A letter."""

    media_type = "text/markdown"


@router.get(
    "/jobs/{job_id}/diagnosis",
    summary="What the training doctor says of a job",
    responses=problems(errors.JobNotFound, errors.NoDiagnosisYet),
)
def diagnosis(job_id: str, db: Reading, language: Reader) -> JobDiagnosisOut:
    """Why the loss is stuck, or that it is not: the verdict, what else is suspected, and what was ruled out."""
    return JobDiagnosisOut.of(run_doctor.examine_job(db, job_id), language)


@router.get(
    "/jobs/{job_id}/diagnosis.md",
    summary="The doctor's letter",
    response_class=MarkdownResponse,
    responses={200: {"headers": FILE_NAME}, **problems(errors.JobNotFound, errors.NoDiagnosisYet)},
)
def letter(job_id: str, db: Reading, language: Reader) -> MarkdownResponse:
    """History, evidence, verdict, remedy and what was ruled out, as Markdown to download."""
    name = f'attachment; filename="{job_id}-diagnosis.md"'
    text = run_doctor.examine_job(db, job_id).letter(language)
    return MarkdownResponse(text, headers={"Content-Disposition": name})


@router.get(
    "/jobs/{job_id}/report",
    summary="The evaluation at the end of a job",
    response_model=ReportOut,
    responses=problems(errors.JobNotFound, errors.NoReportYet),
)
def report(job_id: str, db: Reading, parts: Parts) -> Response:
    """Every metric of every scan of the test split (or the validation scans), summed up; of a cross-validation, both.

    A job that was cancelled or failed has none.
    """
    found = report_service.read(db, parts.files, job_id, REPORT_JSON)
    return Response(found, media_type="application/json")


@router.get(
    "/jobs/{job_id}/report.html",
    summary="The evaluation as a page",
    response_class=HTMLResponse,
    responses=problems(errors.JobNotFound, errors.NoReportYet),
)
def report_page(job_id: str, db: Reading, parts: Parts) -> HTMLResponse:
    """One page that needs no other: tables, curves, the worst scans, the plan with its reasons."""
    return HTMLResponse(report_service.read(db, parts.files, job_id, REPORT_HTML))
