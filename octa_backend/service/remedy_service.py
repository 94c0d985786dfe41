"""Applying what the training doctor proposes: a child job with the remedy's changes, or on the repaired dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from octa_backend.diagnosis.findings import Remedy
from octa_backend.diagnosis.remedies import DATASET_REMEDIES
from octa_backend.errors import IllegalJobState, RemedyNotApplicable
from octa_backend.service import fold_service, repair_service, train_service
from octa_backend.service.run_doctor import examine_job
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.tables import Job


@dataclass(frozen=True, slots=True)
class Remedied:
    """A job that a remedy of another one started, and what it was given otherwise: field -> (before, after)."""

    job: Job
    changes: dict[str, tuple[Any, Any]]


def apply(database: Database, settings: Settings, job_id: str, code: str) -> Job:
    """Queue a child job that differs from a job by a remedy.

    A remedy of the configuration changes the child's; where it goes on from the checkpoint, the child begins with the
    weights that the job published. A remedy of the dataset makes a repaired one, which the child trains on. What the
    job was treated with while it ran, the child has, too: the doctor judged the job with it.

    Raises:
        JobNotFound: no job has this id.
        NoDiagnosisYet: there is nothing to judge the job by.
        RemedyNotApplicable: the doctor proposes no such remedy for the job, or it changes nothing.
        IllegalJobState: it goes on from weights that the job has not published yet, or the job is a fold.
        InvalidDataset: what a repair leaves is no dataset.
        StorageFull: the disk is full; nothing was kept.
    """
    with database.reading() as session:
        job, remedy = _proposed(session, job_id, code)
    config, file_id = _config(job, remedy), job.file_id
    if code in DATASET_REMEDIES:
        file_id = repair_service.repair(database, settings, file_id, [code]).id
    with database.writing() as session:
        return train_service.start(session, file_id, config, parent_job_id=job_id)


def _proposed(session: Session, job_id: str, code: str) -> tuple[Job, Remedy]:
    """A job, and the remedy of this code that the doctor proposes for it."""
    examined = examine_job(session, job_id)
    fold_service.refuse_fold(examined.job, "treat")
    proposed = {one.remedy.code: one.remedy for one in examined.diagnosis.findings if one.remedy is not None}
    if code not in proposed:
        raise RemedyNotApplicable(_unknown(job_id, code, sorted(proposed)))
    _refuse_unchanged(examined.job, proposed[code])
    return examined.job, proposed[code]


def _refuse_unchanged(job: Job, remedy: Remedy) -> None:
    """A child with the configuration of its parent would do what that did. (A repair looks at its dataset itself.)"""
    values = remedy.changes
    if values and all(name in job.config and job.planned(name) == value for name, value in values.items()):
        told = ", ".join(f"{name}={value}" for name, value in values.items())
        raise RemedyNotApplicable(f"{remedy.code} changes nothing: job {job.id} has {told} already")


def remedied(session: Session, job: Job) -> Sequence[Remedied]:
    """The jobs that remedies of a job started, oldest first."""
    children = session.scalars(
        select(Job).where(Job.parent_job_id == job.id, Job.fold.is_(None)).order_by(Job.created_at)
    )
    return [Remedied(child, _differences(job, child)) for child in children]


def _config(job: Job, remedy: Remedy) -> Any:
    changes = dict(remedy.changes)
    if remedy.from_checkpoint:
        if job.model_id is None:
            raise IllegalJobState(
                f"job {job.id} is {job.state}; {remedy.code} goes on from its weights, so cancel it or wait for its end"
            )
        changes["pretrained"] = job.model_id
    return train_service.read_config({**_treated(job), **changes})


def _treated(job: Job) -> dict[str, Any]:
    """The job's configuration with what its treatments made of it; a child has as many epochs as the job was given."""
    treatments = job.plan.get("treatments", ()) if job.plan is not None else ()
    changed = {name for treatment in treatments for name in treatment["changes"]} - {"epochs"}
    return {name: job.planned(name) if name in changed else value for name, value in job.config.items()}


def _differences(before: Job, after: Job) -> dict[str, tuple[Any, Any]]:
    """Of the configuration, that of `before` as it was treated, and `file_id` where the dataset was repaired."""
    sides = [{**_treated(before), "file_id": before.file_id}, {**after.config, "file_id": after.file_id}]
    return {name: (sides[0].get(name), value) for name, value in sides[1].items() if sides[0].get(name) != value}


def _unknown(job_id: str, code: str, proposed: list[str]) -> str:
    if not proposed:
        return f"the doctor proposes no remedy for job {job_id}; GET /train/jobs/{job_id}/diagnosis says why"
    return f"the doctor does not propose {code!r} for job {job_id}; it proposes {', '.join(proposed)}"
