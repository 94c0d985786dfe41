"""What the shapes of all answers share: their base, findings and pages. Each is made from rows by `of`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.text import Language
from octa_backend.service import finding_store

Item = TypeVar("Item", bound=BaseModel)


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(
        from_attributes=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


def files(*media_types: str) -> dict[str, Any]:
    """The `content` of an answer that is a file of one of these types."""
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}


class RemedyOut(BaseModel):
    """A change of a dataset or of a configuration that can be applied."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str = Field(examples=["binarize_masks"])
    """Of a dataset for `POST /datasets/{file_id}/repair`, of a job for `POST /train/jobs/{job_id}/remedies/{code}`."""
    title: str
    changes: dict[str, Any]
    """Fields of the configuration and their new values; empty for a remedy of a dataset."""
    from_checkpoint: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    """Whether the training goes on from the weights it has; left out of remedies for data and for later trainings."""


class FindingOut(Answer):
    """One thing the checks noticed, in the reader's language."""

    code: str = Field(examples=["masks_not_binary"])
    severity: Severity = Field(examples=["error"])
    epoch: int | None
    """Null for a finding that is not of an epoch."""
    message: str
    evidence: dict[str, Any]
    """The numbers and names behind the message; which, depends on the code."""
    scans: list[str]
    remedy: RemedyOut | None


def findings_out(rows: Sequence[dict[str, Any]], language: Language) -> list[FindingOut]:
    """Stored findings, in words."""
    return [FindingOut(**describe(finding_store.from_row(row), language)) for row in rows]


class PageOut(Answer, Generic[Item]):
    """A page of a list; `next_cursor` asks for the next one and is null on the last."""

    items: list[Item]
    next_cursor: str | None
