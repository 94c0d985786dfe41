"""Jobs as the user sees them: start, look, cancel, resume, delete. Session in, rows out; nothing commits here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, tuple_
from sqlalchemy.orm import Session

from octa_backend.errors import IllegalJobState, InvalidConfig, JobNotFound
from octa_backend.faults import hint
from octa_backend.service import dataset_service, fold_service, paging
from octa_backend.service.log_tail import LogPage, read_page
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Attempt, EpochReport, GradientNorm, Job, JobFinding, JobState
from octa_backend.training.config import TrainConfig


def start(session: Session, file_id: str, config: TrainConfig, parent_job_id: str | None = None) -> Job:
    """Queue a training on a dataset, or a cross-validation with its folds.

    Raises:
        DatasetNotFound: no dataset has this id.
    """
    dataset = dataset_service.get(session, file_id)
    config = config.for_scans(dataset.spatial_dims)
    job = Job(file_id=dataset.id, config=config.model_dump(mode="json"), parent_job_id=parent_job_id)
    session.add(job)
    session.flush()
    if config.folds:
        fold_service.add_folds(session, job, config.folds)
    return job


def read_config(values: dict[str, Any]) -> TrainConfig:
    """Make a config from what a user gave.

    Raises:
        InvalidConfig: a name is unknown or a value out of range; the message names each of them.
    """
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        told: dict[str, list[str]] = {}
        for fault in error.errors():
            told.setdefault(_subject(fault), []).append(_explain(fault))
        raise InvalidConfig("; ".join(subject + " or ".join(told[subject]) for subject in told)) from error


def _subject(fault: Any) -> str:
    """The field and its value; a field of several types has a fault for each."""
    if not fault["loc"]:
        return ""
    return str(fault["loc"][0]) + ("" if fault["type"] == "extra_forbidden" else f"={fault['input']!r}: ")


def _explain(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        known = hint(fault["loc"][0], TrainConfig.model_fields)
        return f" is not a field of the training configuration; {known}"
    message: str = fault["msg"].removeprefix("Value error, ")
    return message


def get(session: Session, job_id: str) -> Job:
    """The job with this id.

    Raises:
        JobNotFound: there is none.
    """
    job = session.get(Job, job_id)
    if job is None:
        raise JobNotFound(f"no job has the id {job_id!r}")
    return job


def list_jobs(session: Session, state: JobState | None, limit: int, cursor: str | None) -> Page[Job]:
    """Jobs, newest first, of one state or of all."""
    query = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(Job.state == state)
    if cursor is not None:
        created, job_id = read_cursor(cursor, paging.moment, paging.text)
        query = query.where(tuple_(Job.created_at, Job.id) < (created, job_id))
    rows = session.scalars(query).all()
    return Page.cut(rows, limit, lambda job: cursor_of(job.created_at.isoformat(), job.id))


def attempts(session: Session, job_id: str) -> Sequence[Attempt]:
    """The job's attempts, in order."""
    return session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)).all()


def _before(job: Job) -> ColumnElement[bool]:
    return or_(Job.queued_at < job.queued_at, and_(Job.queued_at == job.queued_at, Job.id < job.id))


def queue_position(session: Session, job: Job) -> int | None:
    """1 for the job that starts next; None for one that does not wait. A cross-validation waits for its first fold."""
    if job.state != JobState.QUEUED:
        return None
    if fold_service.is_parent(job):
        return queue_position(session, fold_service.folds_of(session, job.id)[0])
    queued = Job.state == JobState.QUEUED, fold_service.computes(Job)
    waiting = select(func.count()).select_from(Job).where(*queued, _before(job))
    return (session.scalar(waiting) or 0) + 1


@dataclass(frozen=True, slots=True)
class Progress:
    """A job with what a poll wants to know of it."""

    job: Job
    queue_position: int | None
    latest: EpochReport | None
    epochs_since: Sequence[EpochReport]
    findings: Sequence[JobFinding]
    children: Sequence[Job]


MAX_EPOCHS_SINCE = 500
"""Reports in one polling answer; a client that is further behind asks again with the last epoch it got."""


def progress(session: Session, job_id: str, since_epoch: int | None) -> Progress:
    """What a poll wants to know; reports after `since_epoch` where it is given."""
    job = get(session, job_id)
    since: Sequence[EpochReport] = ()
    if since_epoch is not None:
        since = session.scalars(_reports(job_id, since_epoch).limit(MAX_EPOCHS_SINCE)).all()
    latest = session.get(EpochReport, (job_id, job.epoch)) if job.epoch else None
    return Progress(
        job=job,
        queue_position=queue_position(session, job),
        latest=latest,
        epochs_since=since,
        findings=findings(session, job_id),
        children=fold_service.folds_of(session, job_id),
    )


def findings(session: Session, job_id: str, after: int = 0) -> Sequence[JobFinding]:
    """The job's findings with an id above `after`."""
    query = select(JobFinding).where(JobFinding.job_id == job_id, JobFinding.id > after).order_by(JobFinding.id)
    return session.scalars(query).all()


def _reports(job_id: str, after: int) -> Select[Any]:
    query = select(EpochReport).where(EpochReport.job_id == job_id, EpochReport.epoch > after)
    return query.order_by(EpochReport.epoch)


def epoch_reports(session: Session, job_id: str, limit: int, cursor: str | None) -> Page[EpochReport]:
    """The reports of a job, in order."""
    get(session, job_id)
    after = read_cursor(cursor, paging.whole)[0] if cursor else 0
    rows = session.scalars(_reports(job_id, after).limit(limit + 1)).all()
    return Page.cut(rows, limit, lambda report: cursor_of(report.epoch))


def gradient_norms(session: Session, job_id: str, limit: int, cursor: str | None) -> Page[GradientNorm]:
    """The gradient norms of a job's steps, in order."""
    get(session, job_id)
    query = select(GradientNorm).where(GradientNorm.job_id == job_id)
    if cursor:
        after = read_cursor(cursor, paging.whole, paging.whole)
        query = query.where(tuple_(GradientNorm.epoch, GradientNorm.step) > after)
    rows = session.scalars(query.order_by(GradientNorm.epoch, GradientNorm.step).limit(limit + 1)).all()
    return Page.cut(rows, limit, lambda row: cursor_of(row.epoch, row.step))


def read_log(session: Session, files: Files, job_id: str, lines: int, before: int | None = None) -> LogPage:
    """The last lines that the job's workers printed, or that stand before a byte of the log."""
    get(session, job_id)
    return read_page(files.job_log(job_id), lines, before)


def request_cancel(session: Session, job_id: str) -> Job:
    """Cancel a waiting job at once; ask a running one to stop at its next batch; a cross-validation with its folds.

    Raises:
        IllegalJobState: the job is already over, or a fold of another one.
    """
    job = get(session, job_id)
    fold_service.refuse_fold(job, "cancel")
    if JobState(job.state).is_final:
        raise IllegalJobState(f"job {job_id} is {job.state}; only a queued or running job can be cancelled")
    if fold_service.is_parent(job):
        job.cancel_requested = True
        job.touch()
        fold_service.settle(session, job)
    else:
        fold_service.stop(job)
    session.flush()
    return job


def resume(session: Session, job_id: str, changes: dict[str, Any]) -> Job:
    """Queue a job that is over again; it goes on from its last checkpoint, a cross-validation with its folds.

    Args:
        session: the transaction.
        job_id: which job.
        changes: `epochs` and `lr`, each only where it shall change.

    Raises:
        IllegalJobState: the job waits or runs, has nothing left to do, or is a fold of another one.
        InvalidConfig: a value is out of range.
    """
    job = get(session, job_id)
    if not JobState(job.state).is_final:
        raise IllegalJobState(f"job {job_id} is {job.state}; only a job that is over can be resumed")
    fold_service.refuse_fold(job, "resume")
    config = read_config({**job.config, **changes})
    if fold_service.is_parent(job):
        fold_service.resume_folds(session, job, config)
        session.flush()
        return job
    asked = changes.get("epochs", "auto")
    epochs = job.planned("epochs") if asked == "auto" else asked
    if epochs is not None and (epochs < job.epoch or (epochs == job.epoch and job.state == JobState.SUCCEEDED)):
        raise IllegalJobState(f"job {job_id} has finished epoch {job.epoch} of {epochs}; resume it with more epochs")
    fold_service.requeue(job, config)
    session.flush()
    return job


def remove(session: Session, job_id: str) -> list[str]:
    """Forget a job with its reports, a cross-validation with its folds; published models stay.

    Returns:
        The ids of the jobs that are gone.

    Raises:
        IllegalJobState: it is running, or a fold of another one.
    """
    job = get(session, job_id)
    fold_service.refuse_fold(job, "delete")
    if job.state == JobState.RUNNING:
        raise IllegalJobState(f"job {job_id} is running; cancel it first")
    gone = [job, *fold_service.folds_of(session, job_id)]
    for one in gone:
        for table in (EpochReport, GradientNorm, JobFinding, Attempt):
            session.execute(delete(table).where(table.job_id == one.id))
        session.delete(one)
    session.flush()
    return [one.id for one in gone]
