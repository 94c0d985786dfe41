"""Attempts: claiming a job, showing that its process lives, and what becomes of the job when the attempt ends.

A process that is not its job's current attempt any more gets False from `beat` and must stop without writing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, aliased

from octa_backend.service.fold_service import began, computes, is_fold, is_parent, ready_to_conclude
from octa_backend.service.process import ProcessMark
from octa_backend.storage.tables import Attempt, Job, JobState, now


def claim_next(session: Session, jobs_per_device: int) -> Attempt | None:
    """Take a cross-validation whose folds are done, else the job that has waited longest, if a place is free.

    One UPDATE, so two servers never get the same job. A cross-validation takes a place only while it is concluded.
    """
    waiting = aliased(Job)
    oldest = (
        select(waiting.id)
        .where(waiting.state == JobState.QUEUED, computes(waiting))
        .order_by(waiting.queued_at, waiting.id)
        .limit(1)
        .scalar_subquery()
    )
    done = select(Job.id).where(ready_to_conclude()).order_by(Job.queued_at).limit(1).scalar_subquery()
    return _claim(session, jobs_per_device, Job.id == done, ready_to_conclude()) or _claim(
        session, jobs_per_device, Job.id == oldest, Job.state == JobState.QUEUED
    )


def _claim(session: Session, jobs_per_device: int, *which: ColumnElement[bool]) -> Attempt | None:
    busy = select(func.count()).select_from(Attempt).where(Attempt.ended_at.is_(None)).scalar_subquery()
    claim = (
        update(Job)
        .where(*which, busy < jobs_per_device)
        .values(state=JobState.RUNNING, attempt=Job.attempt + 1, version=Job.version + 1)
        .returning(Job)
        .execution_options(synchronize_session=False)
    )
    job = session.scalars(claim).one_or_none()
    if job is None:
        return None
    session.refresh(job)
    job.started_at = job.started_at or now()
    if is_fold(job):
        began(session, job)
    attempt = Attempt(job_id=job.id, number=job.attempt)
    session.add(attempt)
    session.flush()
    return attempt


def open_attempts(session: Session) -> Sequence[Attempt]:
    """The attempts that are not over."""
    return session.scalars(select(Attempt).where(Attempt.ended_at.is_(None)).order_by(Attempt.started_at)).all()


def asked_to_stop(session: Session) -> Sequence[str]:
    """The ids of attempts that are not over, at jobs that were asked to stop."""
    query = select(Attempt.id).join(Job, Job.id == Attempt.job_id)
    return session.scalars(query.where(Attempt.ended_at.is_(None), Job.cancel_requested)).all()


def record_process(session: Session, attempt_id: str, mark: ProcessMark) -> None:
    """Note which process works on the attempt."""
    found = {"pid": mark.pid, "process_started": mark.started, "process_boot": mark.boot}
    session.execute(update(Attempt).where(Attempt.id == attempt_id).values(found))


def mark_of(attempt: Attempt) -> ProcessMark | None:
    """The attempt's process, or None before it was recorded."""
    if attempt.pid is None or attempt.process_started is None:
        return None
    return ProcessMark(attempt.pid, attempt.process_started, attempt.process_boot)


def beat(session: Session, attempt_id: str) -> bool:
    """Show that the attempt's process lives; False if the attempt is over."""
    alive = update(Attempt).where(Attempt.id == attempt_id, Attempt.ended_at.is_(None)).values(heartbeat_at=now())
    return session.scalars(alive.returning(Attempt.id)).one_or_none() is not None


def is_current(session: Session, attempt_id: str) -> bool:
    """Whether the attempt is not over."""
    current = select(Attempt.id).where(Attempt.id == attempt_id, Attempt.ended_at.is_(None))
    return session.scalar(current) is not None


def cancel_requested(session: Session, job_id: str) -> bool:
    """Whether the user asked the job to stop."""
    return bool(session.scalar(select(Job.cancel_requested).where(Job.id == job_id)))


def end(session: Session, attempt_id: str, ending: str) -> Job | None:
    """Close an attempt; return its job, or None if another process has closed it before."""
    closed = (
        update(Attempt)
        .where(Attempt.id == attempt_id, Attempt.ended_at.is_(None))
        .values(ended_at=now(), ending=ending)
        .returning(Attempt.job_id)
    )
    job_id = session.scalars(closed).one_or_none()
    return session.get(Job, job_id, populate_existing=True) if job_id else None


def crashed(session: Session, attempt_id: str, ending: str, max_attempts: int, log_tail: list[str]) -> Job | None:
    """Close an attempt whose process died: the job waits again, or fails when too many have died over it.

    A cross-validation goes on running, and its next attempt concludes it. A job that was asked to stop waits again too
    where it has a checkpoint: its next attempt publishes the best one. Where too many have died it is cancelled.
    """
    job = end(session, attempt_id, ending)
    if job is None or job.state != JobState.RUNNING:
        return job
    job.crashes += 1
    job.log_tail = log_tail
    if job.cancel_requested and (job.epoch == 0 or is_parent(job)):
        job.move_to(JobState.CANCELLED)
    elif job.crashes >= max_attempts:
        job.error = f"{ending}. {job.crashes} worker processes died over this job, so it is not tried again."
        job.move_to(JobState.CANCELLED if job.cancel_requested else JobState.FAILED)
    elif is_parent(job):
        job.touch()
    else:
        job.move_to(JobState.QUEUED)
    return job
