"""Shapes of the epochs of a job."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from octa_backend.controller.schemas import Answer
from octa_backend.storage.tables import EpochReport, Job
from octa_backend.training.events import seconds_per_batch


class ClassScoreOut(BaseModel):
    """What one foreground class scored in the validation: means over the scans that have it, null where none has."""

    model_config = ConfigDict(serialize_by_alias=True)

    index: int = Field(alias="class", examples=[1])
    dice: float | None = Field(examples=[0.81])
    iou: float | None = Field(examples=[0.68])
    scans: int = Field(examples=[15])


class EpochOut(Answer):
    """The numbers of one epoch. `loss_components.dice` is the Dice loss, 1 - soft Dice, unweighted."""

    epoch: int
    train_loss: float
    loss_components: dict[str, float]
    val_loss: float | None
    """Null where it was not finite."""
    val_dice: float
    val_iou: float
    val_precision: float
    val_recall: float
    lr: float
    seconds: float
    scans_per_second: float
    seconds_per_batch: float | None
    peak_memory_mb: float
    gradient_norms: dict[str, float]
    gradient_verdict: Literal["exploding", "vanishing", "mild_vanishing", "healthy"]
    plateau: dict[str, Any] | None
    per_class: list[ClassScoreOut] | None

    @classmethod
    def of(cls, report: EpochReport, job: Job) -> Self:
        """From a row, and the job that it is of; the time of a batch is known with the plan's batch size."""
        columns = {name: getattr(report, name) for name in cls.model_fields if name != "seconds_per_batch"}
        batch_size = job.plan["config"]["batch_size"] if job.plan else None
        seconds = seconds_per_batch(report.scans_per_second, batch_size) if batch_size else None
        return cls(**columns, seconds_per_batch=seconds)


class EpochDetail(EpochOut):
    """An epoch with what was measured of its steps: too much for every poll."""

    signals: dict[str, Any] | None
    """Update ratios, weight and gradient norms of groups and layers, and more; null for a run that kept none."""
