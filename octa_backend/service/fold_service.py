"""Cross-validations: a parent job without a device, and a child job for each fold.

All there is to know stands in the rows, so that a restarted server goes on: `settle` looks at the children and brings
the parent up to date. Children wait, run, crash and resume like any job. When all have succeeded, the parent itself
gets an attempt, which takes a place like any other, makes the ensemble and ends the parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session, aliased

from octa_backend.errors import IllegalJobState
from octa_backend.storage.tables import CROSS_VALIDATION, Attempt, Job, JobState, now
from octa_backend.training.config import TrainConfig

UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
_OPEN = (Job.fold == CROSS_VALIDATION, Job.state.in_(UNFINISHED))


def is_parent(job: Job) -> bool:
    """Whether the job is a cross-validation."""
    return job.fold == CROSS_VALIDATION


def is_fold(job: Job) -> bool:
    """Whether the job is one fold of a cross-validation."""
    return job.fold is not None and job.fold != CROSS_VALIDATION


def computes(job: type[Job]) -> ColumnElement[bool]:
    """Jobs that are trainings, and not parents of trainings."""
    return or_(job.fold.is_(None), job.fold != CROSS_VALIDATION)


def add_folds(session: Session, parent: Job, folds: int) -> None:
    """Make a job a cross-validation, and queue its folds in order."""
    parent.fold = CROSS_VALIDATION
    session.flush()
    for fold in range(1, folds + 1):
        session.add(
            Job(
                file_id=parent.file_id,
                config=parent.config,
                parent_job_id=parent.id,
                fold=fold,
                queued_at=_place(parent, fold),
            )
        )
    session.flush()


def _place(parent: Job, fold: int) -> datetime:
    """Folds wait in their order, right behind each other."""
    return parent.queued_at + timedelta(microseconds=fold)


def folds_of(session: Session, parent_id: str) -> Sequence[Job]:
    """The children of a cross-validation, in order; empty for another job."""
    query = select(Job).where(Job.parent_job_id == parent_id, Job.fold > CROSS_VALIDATION).order_by(Job.fold)
    return session.scalars(query).all()


def refuse_fold(job: Job, what: str) -> None:
    """Folds are cancelled, resumed and deleted with their parent.

    Raises:
        IllegalJobState: the job is a fold.
    """
    if is_fold(job):
        raise IllegalJobState(
            f"job {job.id} is fold {job.fold} of cross-validation {job.parent_job_id}; {what} that one"
        )


def settle_all(session: Session) -> None:
    """Bring every cross-validation that is not over up to date."""
    for parent in session.scalars(select(Job).where(*_OPEN)).all():
        settle(session, parent)


def any_open(session: Session) -> bool:
    """Whether there is a cross-validation that is not over."""
    return session.scalar(select(Job.id).where(*_OPEN).limit(1)) is not None


def settle(session: Session, parent: Job) -> None:
    """Bring a cross-validation up to date with its children.

    When one has failed for good, or a cancel was asked for, the others are asked to stop; when none works any more, the
    parent fails, naming the fold, or is cancelled.
    """
    folds = folds_of(session, parent.id)
    _count(parent, folds)
    broken = next((fold for fold in folds if fold.state == JobState.FAILED), None)
    if broken is None and not parent.cancel_requested:
        return
    for fold in folds:
        if not fold.cancel_requested:  # one that waits although it was asked will publish its best epoch
            stop(fold)
    if any(fold.state in UNFINISHED for fold in folds) or _is_concluding(session, parent):
        return
    if broken is not None and not parent.cancel_requested:
        parent.error = f"fold {broken.fold} of {len(folds)} failed (job {broken.id}): {broken.error}"
        parent.move_to(JobState.FAILED)
    else:
        parent.move_to(JobState.CANCELLED)


def _count(parent: Job, folds: Sequence[Job]) -> None:
    """The parent's epochs are those of its folds together; a fold that ended early counts whole."""
    if parent.plan is None:
        parent.plan = next((fold.plan for fold in folds if fold.plan), None)
    done = sum(_counted(fold, parent.planned("epochs")) for fold in folds)
    if done != parent.epoch:
        parent.epoch = done
        parent.touch()


def _counted(fold: Job, epochs: int | None) -> int:
    """A fold's part of the parent's epochs: where a treatment, or its plan, gave it more of them, each counts for less.

    Args:
        fold: one of the parent's.
        epochs: those that the parent counts for each fold; None before any fold is planned.
    """
    own: int | None = fold.planned("epochs")
    if epochs is None or own is None:
        return fold.epoch
    return epochs if fold.state == JobState.SUCCEEDED else fold.epoch * epochs // own


def stop(job: Job) -> None:
    """Cancel a waiting job at once, ask a running one to stop; one that is over stays as it is."""
    if job.state == JobState.QUEUED:
        job.cancel_requested = True
        job.move_to(JobState.CANCELLED)
    elif job.state == JobState.RUNNING and not job.cancel_requested:
        job.cancel_requested = True
        job.touch()


def began(session: Session, fold: Job) -> None:
    """A fold is worked on: its cross-validation runs."""
    parent = session.get_one(Job, fold.parent_job_id)
    if parent.state == JobState.QUEUED:
        parent.started_at = parent.started_at or now()
        parent.move_to(JobState.RUNNING)


def _is_concluding(session: Session, parent: Job) -> bool:
    current = select(Attempt.id).where(Attempt.job_id == parent.id, Attempt.ended_at.is_(None))
    return session.scalar(current) is not None


def ready_to_conclude() -> ColumnElement[bool]:
    """Cross-validations whose folds have all succeeded, and on which no process works."""
    fold = aliased(Job)
    unfinished = exists().where(fold.parent_job_id == Job.id, fold.fold > 0, fold.state != JobState.SUCCEEDED)
    worked_on = exists().where(Attempt.job_id == Job.id, Attempt.ended_at.is_(None))
    waits = (Job.fold == CROSS_VALIDATION) & Job.state.in_(UNFINISHED) & ~Job.cancel_requested
    return waits & ~unfinished & ~worked_on


def resume_folds(session: Session, parent: Job, config: TrainConfig) -> None:
    """Queue the folds that have something left to do, in order, under a configuration.

    A fold whose model was deleted publishes it again, from its checkpoint.

    Raises:
        IllegalJobState: there is nothing left to do.
    """
    folds = folds_of(session, parent.id)
    before = TrainConfig.model_validate(parent.config)
    changed = config != before
    asked: int | None = None if config.epochs in ("auto", before.epochs) else int(config.epochs)
    furthest = max(fold.epoch for fold in folds)
    if (asked is not None and asked < furthest) or (parent.state == JobState.SUCCEEDED and not changed):
        epochs = asked or parent.planned("epochs")
        raise IllegalJobState(
            f"the folds of job {parent.id} have finished up to {furthest} of {epochs} epochs; "
            "resume it with more epochs"
        )
    requeue(parent, config)
    for fold in folds:
        last: int | None = asked or fold.planned("epochs")  # a treatment may have given it more than the others
        is_whole = fold.state == JobState.SUCCEEDED and fold.model_id is not None
        if not is_whole or (changed and (last is None or fold.epoch < last)):
            requeue(fold, config)
            fold.queued_at = _place(parent, fold.fold or 0)


def requeue(job: Job, config: TrainConfig) -> None:
    """Have a job that is over wait again."""
    job.config = config.model_dump(mode="json")
    job.cancel_requested, job.crashes, job.error, job.log_tail = False, 0, None, []
    job.move_to(JobState.QUEUED)
