"""Shapes of what is asked and answered about the shelf of models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from octa_backend.controller.schemas import Answer
from octa_backend.inference.model_card import MAX_LICENCE, MAX_NAME, MAX_NOTES
from octa_backend.service.comparison_service import MOST_MODELS
from octa_backend.storage.tables import Comparison, ComparisonState, Model

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME)]
Id = Annotated[str, StringConstraints(max_length=200)]
"""Longer than any that this server gives."""


class ModelListed(Answer):
    """A model of the list; `GET /models/{model_id}` has its whole card."""

    model_id: str = Field(examples=["9f86d081884c7d65-e7"])
    name: str | None
    licence: str | None
    job_id: str | None
    file_id: str | None
    created_at: datetime
    is_default: bool
    """Whether it was chosen as the default."""
    imported: bool
    network: str = Field(examples=["unet_transformer"])
    channels: int
    classes: int
    dataset: str | None = Field(examples=["rossa.zip"])
    best: dict[str, Any] | None
    test: dict[str, Any] | None
    members: int | None
    """Of an ensemble."""

    @classmethod
    def of(cls, row: Model) -> ModelListed:
        """From a row."""
        card = row.card
        columns = {name: getattr(row, name) for name in ("name", "licence", "job_id", "file_id", "created_at")}
        known = {name: card.get(name) for name in ("network", "channels", "classes", "best", "test")}
        return cls(
            **columns,
            **known,
            model_id=row.id,
            is_default=row.chosen_at is not None,
            imported=card.get("imported") is not None,
            dataset=card.get("dataset", {}).get("name") or None,
            members=len(card["members"]) if card.get("members") else None,
        )


class SaidOfModel(BaseModel):
    """What shall be said of a model; what is left out stays, null takes away."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(default=None, examples=["ROSSA, second try"])
    notes: str | None = Field(default=None, max_length=MAX_NOTES)
    licence: str | None = Field(default=None, max_length=MAX_LICENCE, examples=["CC BY-NC 4.0"])


class DefaultChoice(BaseModel):
    """Which model answers where none is named."""

    model_config = ConfigDict(extra="forbid")

    model_id: Id


class ComparisonWish(BaseModel):
    """Which models to compare, and on which scans."""

    model_config = ConfigDict(extra="forbid")

    model_ids: list[Id] = Field(min_length=1, max_length=MOST_MODELS)
    file_id: Id
    split: Literal["test", "val", "all"] = "test"


class ComparisonOut(Answer):
    """A comparison of models; `table` is there once it has succeeded."""

    comparison_id: str
    state: ComparisonState = Field(examples=["running"])
    model_ids: list[str]
    file_id: str
    split: Literal["test", "val", "all"]
    done: int
    total: int | None
    """Scans times models; null until that is known."""
    table: dict[str, Any] | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Comparison) -> ComparisonOut:
        """From a row."""
        columns = {name: getattr(row, name) for name in cls.model_fields if name != "comparison_id"}
        return cls(comparison_id=row.id, **columns)
