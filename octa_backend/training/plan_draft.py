"""A plan in the making: fields that are settled one by one, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

from octa_backend.training.config import TrainConfig


class Reason(BaseModel):
    """Why a field has the value it has."""

    model_config = ConfigDict(frozen=True)

    field: str
    value: Any
    reason: str


class Draft:
    """A config on its way to a plan, and why each of its fields is what it is."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.reasons: list[Reason] = []

    def note(self, field: str, value: Any, reason: str) -> Any:
        """Give a reason for a value; returns the value."""
        self.reasons.append(Reason(field=field, value=value, reason=reason))
        return value

    def take(self, chosen: dict[str, Any]) -> None:
        """Set fields."""
        self.config = self.config.model_copy(update=chosen)

    def settle(self, field: str, choose: Callable[[], tuple[Any, str]]) -> None:
        """Set one field if it was left open."""
        if getattr(self.config, field) == "auto":
            self.take({field: self.note(field, *choose())})
