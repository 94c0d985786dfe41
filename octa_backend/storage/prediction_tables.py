"""The tables of predictions that are kept, and of jobs that predict many scans."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from octa_backend.errors import IllegalJobState
from octa_backend.storage.tables import LEGAL_MOVES, Base, JobState, new_id, now


class PredictionJob(Base):
    """A request to predict many scans, and its life; its states and their moves are those of a training.

    `options` has the fields of `service.predict_service.PredictOptions`. Scans are worked on in the order of their
    names; `processed` of them are over, and `failed` of these could not be predicted. `begun` servers have begun with
    the next one. `spatial_dims` is 2, and 3 of volumes, of which each case counts as one scan.
    """

    __tablename__ = "prediction_jobs"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    model_id: Mapped[str] = mapped_column(index=True)
    spatial_dims: Mapped[int] = mapped_column(default=2, server_default="2")
    name: Mapped[str]
    options: Mapped[dict[str, Any]]
    state: Mapped[JobState] = mapped_column(String, default=JobState.QUEUED, index=True)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    total: Mapped[int]
    ignored: Mapped[int] = mapped_column(default=0)
    processed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    begun: Mapped[int] = mapped_column(default=0, server_default="0")
    busy_seconds: Mapped[float] = mapped_column(default=0.0)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    def move_to(self, state: JobState) -> None:
        """Change the state.

        Raises:
            IllegalJobState: the job cannot go there from where it is.
        """
        if state not in LEGAL_MOVES[JobState(self.state)]:
            raise IllegalJobState(f"prediction job {self.id} is {self.state}; it cannot become {state}")
        self.state = state
        if state is JobState.RUNNING:
            self.started_at = now()
        elif state.is_final:
            self.finished_at = now()


class KeptPrediction(Base):
    """A prediction whose answer and pictures lie in `Files.prediction`. It outlives its model, but not its job.

    `measurements` is as the answer shows it; `position` is the scan's place in its job, from 0. Of a volume `file` is
    the first of its case, and `width`, `height` and `depth` are along the file's own axes; a picture has no depth.
    """

    __tablename__ = "predictions"
    __table_args__ = (
        UniqueConstraint("prediction_job_id", "position", name="uq_predictions_job_position"),
        Index("ix_predictions_job_created", "prediction_job_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(index=True)
    prediction_job_id: Mapped[str | None] = mapped_column(ForeignKey("prediction_jobs.id", ondelete="CASCADE"))
    position: Mapped[int | None]
    file: Mapped[str]
    sha256: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    depth: Mapped[int | None]
    threshold: Mapped[float]
    foreground_fraction: Mapped[float]
    confidence: Mapped[dict[str, Any]]
    measurements: Mapped[dict[str, Any]]
    warnings: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class PredictionFailure(Base):
    """A scan of a job that could not be predicted, and why."""

    __tablename__ = "prediction_failures"

    prediction_job_id: Mapped[str] = mapped_column(
        ForeignKey("prediction_jobs.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[str]
    reason: Mapped[str]
