"""What `GET /train/jobs/{job_id}/gradients` is asked and answers."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator

from octa_backend.controller.schemas import Answer
from octa_backend.service.gradient_points import GradientPoint
from octa_backend.storage.tables import GradientNorm

MAX_POINTS = 5000
"""More than a screen has columns; an answer of about 2 MB."""


class GradientsWish(BaseModel):
    """Pages of single steps, or the whole run in points."""

    limit: int = Field(500, ge=1, le=500, description="Rows per page.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")
    points: int | None = Field(
        None,
        ge=1,
        le=MAX_POINTS,
        description="In place of pages: the whole run in at most so many points, each of equally many steps. 2000 "
        "draw a curve.",
    )

    @model_validator(mode="after")
    def _pages_or_points(self) -> Self:
        if self.points is not None and self.model_fields_set & {"limit", "cursor"}:
            raise ValueError("points shows the whole run at once; leave out limit and cursor, or points")
        return self


class GradientOut(Answer):
    """Loss and L2 gradient norms of one step."""

    epoch: int
    step: int
    loss: float
    lr: float
    encoder_conv1: float
    encoder_last: float
    decoder_first: float
    decoder_output: float

    @classmethod
    def of(cls, row: GradientNorm) -> GradientOut:
        """From a row."""
        return cls.model_validate(row)


class MeasuredOut(BaseModel):
    """Loss, and L2 norm of each gradient group."""

    loss: float
    encoder_conv1: float
    encoder_last: float
    decoder_first: float
    decoder_output: float


class GradientPointOut(Answer):
    """Successive steps as one point: how many, the first of them, their mean, and the largest of each number."""

    epoch: int = Field(examples=[3])
    first_step: int = Field(examples=[151])
    steps: int = Field(examples=[50])
    lr: float = Field(examples=[0.0005])
    mean: MeasuredOut
    max: MeasuredOut

    @classmethod
    def of(cls, point: GradientPoint) -> GradientPointOut:
        """From what the database summed up."""
        return cls(
            epoch=point.epoch,
            first_step=point.first_step,
            steps=point.steps,
            lr=point.lr,
            mean=MeasuredOut(**point.mean),
            max=MeasuredOut(**point.largest),
        )
