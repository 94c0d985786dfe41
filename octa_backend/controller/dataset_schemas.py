"""Shapes of what is asked and answered about datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from octa_backend.controller.schemas import Answer, FindingOut, findings_out
from octa_backend.diagnosis.findings import verdict_of
from octa_backend.diagnosis.messages import describe, ordered
from octa_backend.diagnosis.text import Language
from octa_backend.service import dataset_service
from octa_backend.service.diagnosis_service import LabelDiagnosis
from octa_backend.storage.tables import Dataset


class RepairWish(BaseModel):
    """Remedies to apply, by code."""

    model_config = ConfigDict(extra="forbid")

    remedies: list[str] = Field(min_length=1, examples=[["binarize_masks"]])


class RepairStep(Answer):
    """What one remedy changed on one scan."""

    remedy: str = Field(examples=["binarize_masks"])
    scan: str = Field(examples=["12"])
    details: dict[str, Any] = Field(examples=[{"threshold": 127}])


class RepairOut(Answer):
    """What one remedy changed: on how many scans, and the first of the changes."""

    remedy: str = Field(examples=["binarize_masks"])
    changed: int = Field(examples=[3])
    steps: list[RepairStep]


class DatasetDiagnosisOut(Answer):
    """What the checks say about a dataset; `verdict` is `clean`, `warnings` or `errors`."""

    file_id: str
    verdict: Literal["clean", "warnings", "errors"] = Field(examples=["warnings"])
    findings: list[FindingOut]
    label_review: list[LabelReviewOut] | None = None
    """Where a model was named: how much each mask contradicts it, the most suspicious scan first."""

    @classmethod
    def of(cls, dataset: Dataset, labels: LabelDiagnosis | None, language: Language) -> DatasetDiagnosisOut:
        """From a row, and a review of its labels."""
        findings = ordered([*dataset_service.findings_of(dataset), *(labels.findings if labels else ())])
        reviews = None
        if labels is not None:
            reviews = [LabelReviewOut.model_validate(found) for found in labels.reviews]
        return cls(
            file_id=dataset.id,
            verdict=verdict_of(findings),
            findings=[FindingOut(**describe(found, language)) for found in findings],
            label_review=reviews,
        )


class LabelReviewOut(Answer):
    """How much a scan's mask contradicts what a model is sure of; the most suspicious scan comes first."""

    scan: str
    disagreement: float = Field(examples=[0.12])
    missed_fraction: float
    extra_fraction: float
    dice: float


class DatasetOut(Answer):
    """A dataset. `splits` counts the scans of each official split; it is empty where there is none."""

    file_id: str = Field(examples=["5f1c0e7a9b3d4e2f8a61"])
    sha256: str
    name: str = Field(examples=["rossa.zip"])
    scans: int = Field(examples=[200])
    channels: int = Field(examples=[1])
    classes: int = Field(examples=[2])
    spatial_dims: int = Field(examples=[2])
    foreground_fraction: float = Field(examples=[0.107])
    splits: dict[str, int] = Field(examples=[{"train": 100, "test": 100}])
    size_bytes: int
    created_at: datetime
    parent_file_id: str | None
    """The dataset that this one was repaired from."""
    repairs: list[RepairOut]
    findings: list[FindingOut]

    @classmethod
    def of(cls, dataset: Dataset, language: Language) -> DatasetOut:
        """From a row."""
        columns = {name: getattr(dataset, name) for name in cls.model_fields if name not in ("file_id", "findings")}
        return cls(file_id=dataset.id, findings=findings_out(dataset.findings, language), **columns)
