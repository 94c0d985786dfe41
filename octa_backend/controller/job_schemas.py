"""Shapes of what is asked and answered about jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from octa_backend.controller.dataset_schemas import RepairOut
from octa_backend.controller.epoch_schemas import EpochOut
from octa_backend.controller.schemas import Answer, FindingOut, findings_out
from octa_backend.diagnosis.text import Language
from octa_backend.service.fold_service import is_parent
from octa_backend.service.remaining_time import seconds_left
from octa_backend.service.remedy_service import Remedied
from octa_backend.service.train_service import Progress
from octa_backend.storage.tables import Attempt, Job, JobState


class StartedJob(Answer):
    """A queued job and where to poll it."""

    job_id: str = Field(examples=["9f86d081884c7d65"])
    file_id: str
    state: JobState = Field(examples=["queued"])
    progress_url: str = Field(examples=["/train/progress/9f86d081884c7d65"])
    repairs: list[RepairOut] = Field(default=[])
    """What `repair=auto` changed in the data; `file_id` is then the repaired dataset."""
    config_changes: dict[str, Any] = Field(default_factory=dict, examples=[{"pos_weight": 12.5}])
    """What `repair=auto` changed in the configuration."""

    @classmethod
    def of(
        cls, job: Job, repairs: Sequence[dict[str, Any]] = (), config_changes: Mapping[str, Any] | None = None
    ) -> StartedJob:
        """From a row, and what was changed before."""
        return cls(
            job_id=job.id,
            file_id=job.file_id,
            state=job.state,
            progress_url=progress_url(job.id),
            repairs=[RepairOut(**repair) for repair in repairs],
            config_changes=dict(config_changes or {}),
        )


def progress_url(job_id: str) -> str:
    """Where a job is polled."""
    return f"/train/progress/{job_id}"


class ResumeChanges(BaseModel):
    """What may change when a job is resumed."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    epochs: int | None = None
    """The new total number of epochs."""

    lr: float | None = None
    """The new learning rate."""


class BestOut(Answer):
    """The epoch whose weights are published."""

    epoch: int
    val_dice: float


class FoldOut(Answer):
    """One fold of a cross-validation: a job of its own."""

    job_id: str
    fold: int = Field(examples=[1])
    state: JobState = Field(examples=["running"])
    epoch: int
    epochs: int | None
    """Null until the fold's plan has chosen it, where it was left open."""
    percent: float
    best: BestOut | None
    model_id: str | None
    error: str | None

    @classmethod
    def of(cls, job: Job) -> FoldOut:
        """From a row."""
        columns = _job_columns(job)
        return cls(**{name: columns[name] for name in cls.model_fields})


class JobFacts(Answer):
    """What is known of a job wherever it is shown."""

    job_id: str
    file_id: str
    parent_job_id: str | None
    fold: int | None = Field(examples=[None])
    """Which fold of its parent it is; null for a single training and for a cross-validation itself."""
    state: JobState = Field(examples=["running"])
    cancel_requested: bool
    attempt: int
    model: str | None = Field(examples=["unet_transformer"])
    """Null until the plan has chosen it, where it was left open; so are `device`, `precision` and `epochs`."""
    device: str | None = Field(examples=["cpu"])
    precision: str | None = Field(examples=["bf16"])
    epoch: int = Field(examples=[8])
    epochs: int | None = Field(examples=[50])
    percent: float = Field(examples=[16.0])
    best: BestOut | None
    test: dict[str, Any] | None
    model_id: str | None
    error: str | None
    log_tail: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class ProgressOut(JobFacts):
    """Everything a poll wants to know of a job."""

    queue_position: int | None
    eta_seconds: float | None = Field(examples=[301.5])
    latest: EpochOut | None
    epochs_since: list[EpochOut]
    findings: list[FindingOut]
    children: list[FoldOut]

    @classmethod
    def of(cls, found: Progress, language: Language) -> ProgressOut:
        """From a job and its rows."""
        job, latest = found.job, found.latest
        return cls(
            **_job_columns(job),
            queue_position=found.queue_position,
            eta_seconds=seconds_left(job, latest),
            latest=EpochOut.of(latest, job) if latest else None,
            epochs_since=[EpochOut.of(report, job) for report in found.epochs_since],
            findings=findings_out([row.finding for row in found.findings], language),
            children=[FoldOut.of(child) for child in found.children],
        )


class JobOut(JobFacts):
    """A job in a list."""

    @classmethod
    def of(cls, job: Job) -> JobOut:
        """From a row."""
        return cls(**_job_columns(job))


class AttemptOut(Answer):
    """One process that worked on the job."""

    number: int
    pid: int | None
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None
    ending: str | None


class ChangeOut(Answer):
    """A field of the configuration before and after a remedy."""

    before: Any
    after: Any


class RemediedOut(Answer):
    """What a remedy of a job made of it: another job, and the best validation Dice of both."""

    job_id: str
    state: JobState
    changes: dict[str, ChangeOut]
    val_dice_before: float | None = Field(examples=[0.40])
    val_dice_after: float | None = Field(examples=[0.81])

    @classmethod
    def of(cls, parent: Job, found: Remedied) -> RemediedOut:
        """From rows."""
        changes = {name: ChangeOut(before=before, after=after) for name, (before, after) in found.changes.items()}
        return cls(
            job_id=found.job.id,
            state=found.job.state,
            changes=changes,
            val_dice_before=parent.best_val_dice,
            val_dice_after=found.job.best_val_dice,
        )


class JobDetail(JobOut):
    """A job with its config as given, its plan with the reasons, and its attempts."""

    config: dict[str, Any]
    plan: dict[str, Any] | None
    attempts: list[AttemptOut]
    children: list[FoldOut]
    remedied: list[RemediedOut]

    @classmethod
    def of_rows(
        cls, job: Job, attempts: Sequence[Attempt], children: Sequence[Job], remedied: Sequence[Remedied]
    ) -> JobDetail:
        """From rows."""
        return cls(
            **_job_columns(job),
            config=job.config,
            plan=job.plan,
            attempts=[AttemptOut.model_validate(attempt) for attempt in attempts],
            children=[FoldOut.of(child) for child in children],
            remedied=[RemediedOut.of(job, one) for one in remedied],
        )


def _job_columns(job: Job) -> dict[str, Any]:
    epochs = _planned_epochs(job)
    plan = job.plan or {"device": None, "config": {"precision": None}}
    best = job.best_epoch is not None and {"epoch": job.best_epoch, "val_dice": job.best_val_dice}
    names = ("file_id", "parent_job_id", "state", "cancel_requested", "attempt", "epoch", "test", "model_id", "error")
    times = ("log_tail", "created_at", "started_at", "finished_at")
    return {
        **{name: getattr(job, name) for name in (*names, *times)},
        "job_id": job.id,
        "fold": job.fold or None,
        "model": job.planned("model"),
        "device": plan["device"],
        "precision": plan["config"]["precision"],
        "epochs": epochs,
        "percent": _percent(job, epochs),
        "best": best or None,
    }


def _planned_epochs(job: Job) -> int | None:
    """Epochs in all: of a cross-validation those of its folds together; None until they are known."""
    epochs: int | None = job.planned("epochs")
    return epochs * job.config["folds"] if epochs is not None and is_parent(job) else epochs


def _percent(job: Job, epochs: int | None) -> float:
    """Share of the epochs that are done; 0 while their number is not known."""
    if job.state == JobState.SUCCEEDED:
        return 100.0
    return round(100 * job.epoch / epochs, 2) if epochs else 0.0
