"""What the routes of models and predictions answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

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


class CleaningOut(Answer):
    """How many small objects and holes of the mask went."""

    objects_removed: int
    holes_filled: int


class AgreementOut(Answer):
    """How far two masks agree, each number in 0..1; null where no pixel counts."""

    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    cldice: float | None
    """Of the centre lines."""


class ClassAgreementOut(BaseModel):
    """The same of one class; null where neither mask holds it."""

    model_config = ConfigDict(serialize_by_alias=True)

    index: int = Field(alias="class", examples=[1])
    name: str = Field(examples=["artery"])
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    cldice: float | None


class MaskEvaluationOut(Answer):
    """How far the predicted mask agrees with the one that was sent."""

    mask: str
    mean: AgreementOut
    """Over the classes that one of the masks holds."""
    classes: list[ClassAgreementOut]
    ignored_fraction: float
    """Share of pixels that do not count."""


class ExpectedOut(Answer):
    """One number of a scan that lies outside of what the training scans had."""

    value: float
    low: float
    high: float


class ScanWarningOut(Answer):
    """What is noticed about a scan."""

    code: str = Field(examples=["out_of_distribution"])
    model_id: str
    message: str
    evidence: dict[str, ExpectedOut]


class PredictionOut(Answer):
    """One scan's prediction. The PNGs are base64; the mask holds 0 and 255, or class indices with more classes."""

    prediction_id: str
    model_id: str
    """Of several models their ids with commas between them."""
    model_ids: list[str]
    file: str
    width: int
    height: int
    threshold: float
    threshold_source: Literal["fixed", "tuned", "auto"] | None
    """Null with several classes, where the threshold is not used."""
    foreground_fraction: float
    classes: list[PredictedClassOut] | None
    """Of each foreground class; null for binary masks."""
    cleaning: CleaningOut | None
    """Where small objects or holes were to go."""
    mask_png: str
    overlay_png: str
    confidence: Confidence
    confidence_png: str | None
    """With `confidence_map=true`: probability of the class chosen, 0 to 255."""
    probability_png: str | None
    """With `probability=true`: probability of foreground, 0 to 65535."""
    measurements: dict[str, MeasurementOut]
    """By name; empty with `measure=false`."""
    measuring_seconds: float | None
    segments: list[SegmentOut] | None
    """With `measure_segments=true`."""
    measurement_png: str | None
    """With `measure_picture=true`."""
    evaluation: MaskEvaluationOut | None
    """Where a mask was sent."""
    difference_png: str | None
    """Likewise: green is right, red missed, blue invented, yellow of another class."""
    warnings: list[ScanWarningOut]
    seconds: float
    engine: str = Field(examples=["openvino fp32"])
    """What it was computed with: the library and its arithmetic."""
    notice: str
    prediction_url: str | None = Field(examples=["/predictions/81b2fb36743ca0c1"])
    """Where it is kept; null where it is not."""


class PredictionsOut(Answer):
    """The predictions of several scans, in the order they were sent."""

    predictions: list[PredictionOut]
