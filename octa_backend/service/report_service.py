"""The reports of jobs as files: written aside, served as they are. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from octa_backend.errors import NoReportYet
from octa_backend.service import train_service
from octa_backend.storage.files import Files, write_aside

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def write_report(folder: Path, as_json: str, as_html: str) -> None:
    """Keep a report; the JSON comes last, because it says that there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / REPORT_HTML, as_html.encode())
    write_aside(folder / REPORT_JSON, as_json.encode())


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report in a folder, or None where there is none."""
    path = folder / REPORT_JSON
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def read(session: Session, files: Files, job_id: str, name: str) -> bytes:
    """A file of a job's report.

    Raises:
        JobNotFound: no job has this id.
        NoReportYet: the job is not at its end, did not come to it, or did so before reports were made.
    """
    job = train_service.get(session, job_id)
    path = files.job(job_id) / name
    if not (files.job(job_id) / REPORT_JSON).exists():
        raise NoReportYet(
            f"job {job_id} is {job.state} and has no report; it is made at the end of a job, before it succeeds"
        )
    return path.read_bytes()
