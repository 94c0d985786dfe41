"""The tables. State changes of a job go through `Job.move_to` and one table of legal moves."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from octa_backend.errors import IllegalJobState


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """An opaque id that no other row has."""
    return secrets.token_hex(8)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC; SQLite keeps no zone, so it is taken off on the way in and put back on the way out."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware to naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Naive UTC to aware."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[Any]: JSON, str: String}  # noqa: RUF012


class Dataset(Base):
    """An uploaded, checked dataset. `id` is the `file_id` of the API, taken from the zip's SHA-256.

    A repaired one names the dataset it was made from, and what was changed (`service.repair_service.Repair`).
    """

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    scans: Mapped[int]
    channels: Mapped[int]
    classes: Mapped[int]
    spatial_dims: Mapped[int]
    foreground_fraction: Mapped[float]
    splits: Mapped[dict[str, Any]]
    findings: Mapped[list[Any]]
    parent_file_id: Mapped[str | None]
    repairs: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    size_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing works on the job any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


LEGAL_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}
"""running → queued: its worker died. A final state → queued: the user resumes it."""


CROSS_VALIDATION = 0
"""`Job.fold` of a cross-validation itself, the parent of its folds."""


class Job(Base):
    """A request to train, and its life.

    `fold` is None for a single training. A cross-validation is a parent (`CROSS_VALIDATION`) whose children (1, 2, …)
    name it in `parent_job_id`; its `epoch` counts the epochs of all of them. `start_checks` has the fields of
    `diagnosis.run_history.StartChecks`.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    file_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    parent_job_id: Mapped[str | None] = mapped_column(index=True)
    fold: Mapped[int | None]
    state: Mapped[JobState] = mapped_column(String, default=JobState.QUEUED, index=True)
    version: Mapped[int] = mapped_column(default=1)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    config: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any] | None]
    start_checks: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    best_epoch: Mapped[int | None]
    best_val_dice: Mapped[float | None]
    test: Mapped[dict[str, Any] | None]
    model_id: Mapped[str | None]
    error: Mapped[str | None]
    log_tail: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    queued_at: Mapped[datetime] = mapped_column(default=now, index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    def planned(self, field: str) -> Any:
        """A field of the configuration; where it was left open, or a treatment changed it, what the plan says.

        None where it was left open and there is no plan yet.
        """
        given = self.config[field]
        if self.plan is None:
            return None if given == "auto" else given
        is_treated = any(field in treatment["changes"] for treatment in self.plan.get("treatments", ()))
        return self.plan["config"][field] if given == "auto" or is_treated else given

    def touch(self) -> None:
        """Note that something about the job changed, for those who poll."""
        self.version += 1

    def move_to(self, state: JobState) -> None:
        """Change the state.

        Raises:
            IllegalJobState: the job cannot go there from where it is.
        """
        current = JobState(self.state)
        if state not in LEGAL_MOVES[current]:
            raise IllegalJobState(f"job {self.id} is {current}; it cannot become {state}")
        self.state = state
        self.touch()
        if state.is_final:
            self.finished_at = now()
        elif state is JobState.QUEUED and current.is_final:
            self.queued_at, self.finished_at = now(), None


class Attempt(Base):
    """One process working on a job. Over when `ended_at` is set; a process whose attempt is over must stop.

    `pid`, `process_started` and `process_boot` are those of `service.process.ProcessMark`.
    """

    __tablename__ = "attempts"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    pid: Mapped[int | None]
    process_started: Mapped[float | None]
    process_boot: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(default=now)
    heartbeat_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]
    ending: Mapped[str | None]


class EpochReport(Base):
    """The numbers of one epoch, written once. Fields as in `training.events.EpochFinished`."""

    __tablename__ = "epoch_reports"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    train_loss: Mapped[float]
    loss_components: Mapped[dict[str, Any]]
    val_loss: Mapped[float]
    val_dice: Mapped[float]
    val_iou: Mapped[float]
    val_precision: Mapped[float]
    val_recall: Mapped[float]
    lr: Mapped[float]
    seconds: Mapped[float]
    scans_per_second: Mapped[float]
    peak_memory_mb: Mapped[float]
    gradient_norms: Mapped[dict[str, Any]]
    gradient_verdict: Mapped[str]
    plateau: Mapped[dict[str, Any] | None]
    per_class: Mapped[list[Any] | None]
    signals: Mapped[dict[str, Any] | None]


class GradientNorm(Base):
    """Loss and gradient norms of one step."""

    __tablename__ = "gradient_norms"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float]
    lr: Mapped[float]
    encoder_conv1: Mapped[float]
    encoder_last: Mapped[float]
    decoder_first: Mapped[float]
    decoder_output: Mapped[float]


class JobFinding(Base):
    """A finding about a job; fields as in `diagnosis.findings.Finding`."""

    __tablename__ = "job_findings"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    finding: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Model(Base):
    """A published checkpoint. It outlives its job; one that was imported has none, and perhaps no dataset.

    `name`, `notes` and `licence` are what people say of it. The default model is the one with `chosen_at`.
    """

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str | None] = mapped_column(index=True)
    file_id: Mapped[str | None]
    card: Mapped[dict[str, Any]]
    name: Mapped[str | None]
    notes: Mapped[str | None]
    licence: Mapped[str | None]
    chosen_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class ComparisonState(StrEnum):
    """Where a comparison of models is in its life."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Comparison(Base):
    """Several models on the scans of one dataset; `done` of `total` scans are computed, `table` is there at the end."""

    __tablename__ = "comparisons"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    state: Mapped[ComparisonState] = mapped_column(String, default=ComparisonState.RUNNING, index=True)
    model_ids: Mapped[list[Any]]
    file_id: Mapped[str]
    split: Mapped[str]
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int | None]
    table: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
