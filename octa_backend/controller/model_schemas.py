"""What the routes of models and predictions answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from octa_backend.controller.schemas import Answer
from octa_backend.service.model_shelf import whole_card
from octa_backend.storage.tables import Model


class ModelOut(Answer):
    """A published model and its card; an ensemble's card has `members`."""

    model_id: str
    name: str | None
    notes: str | None
    licence: str | None
    job_id: str | None
    """Null for a model that was imported."""
    file_id: str | None
    """Null where nobody knows what it was trained on."""
    created_at: datetime
    is_default: bool
    """Whether it was chosen as the default."""
    card: dict[str, Any]

    @classmethod
    def of(cls, row: Model) -> ModelOut:
        """From a row."""
        names = ("name", "notes", "licence", "job_id", "file_id", "created_at")
        columns = {name: getattr(row, name) for name in names}
        return cls(model_id=row.id, is_default=row.chosen_at is not None, card=whole_card(row), **columns)


class Confidence(Answer):
    """How sure the model is: mean probability of the chosen class, and the share of uncertain pixels."""

    mean: float
    uncertain_fraction: float


class PredictedClassOut(BaseModel):
    """A foreground class of a mask: its name and colour, and its share of the scan."""

    model_config = ConfigDict(serialize_by_alias=True)

    index: int = Field(alias="class", examples=[1])
    name: str = Field(examples=["artery"])
    colour: str = Field(examples=["#ff3b30"])
    fraction: float = Field(examples=[0.04])


class MeasurementOut(Answer):
    """One measured number with its unit; where there is none, the reason in words."""

    value: float | None = Field(examples=[0.31])
    unit: str = Field(examples=["mm²"])
    reason: str | None


class SegmentOut(Answer):
    """One vessel segment; `start` and `end` are row and column in pixels."""

    start: tuple[float, float]
    end: tuple[float, float]
    length: MeasurementOut
    arc_chord: MeasurementOut
    curvature: MeasurementOut
    density: MeasurementOut


class PredictionOut(Answer):
    """One scan's prediction. The PNGs are base64; the mask holds 0 and 255, or class indices with more classes."""

    prediction_id: str
    model_id: str
    file: str
    width: int
    height: int
    threshold: float
    foreground_fraction: float
    classes: list[PredictedClassOut] | None
    """Of each foreground class; null for binary masks."""
    mask_png: str
    overlay_png: str
    confidence: Confidence
    measurements: dict[str, MeasurementOut]
    """By name; empty with `measure=false`."""
    measuring_seconds: float | None
    segments: list[SegmentOut] | None
    """With `measure_segments=true`."""
    measurement_png: str | None
    """With `measure_picture=true`."""
    seconds: float
    engine: str = Field(examples=["openvino fp32"])
    """What it was computed with: the library and its arithmetic."""
    notice: str


class PredictionsOut(Answer):
    """The predictions of several scans, in the order they were sent."""

    predictions: list[PredictionOut]
