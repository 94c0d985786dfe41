"""A treatment: what a run was given while it was under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

DIVERGED = "loss_not_finite"
HALVED = "half_lr"
"""Codes of the finding and of the remedy when a run goes back."""

WENT_BACK, FURTHER, ANEW = "went_back", "treated_further", "treated_anew"
TREATED = (WENT_BACK, FURTHER, ANEW)
"""Codes of the findings that tell of a treatment."""


class Treatment(BaseModel):
    """Changes of a plan from an epoch on.

    Attributes:
        cause: code of the finding that it answers.
        remedy: code of the remedy, a key of `messages.REMEDY_TITLES`.
        after: the epoch after which it holds, one with a checkpoint; 0 before the first.
        changes: field of `TrainConfig` -> its value before and after.
        from_checkpoint: whether weights and optimizer go on from that checkpoint; else they begin fresh.
        restarts: whether the learning rate's schedule begins anew, over as many epochs as the run had.
    """

    model_config = ConfigDict(frozen=True)

    cause: str
    remedy: str
    after: int
    changes: Mapping[str, tuple[Any, Any]]
    from_checkpoint: bool
    restarts: bool


def begun_after(treatments: Iterable[Treatment]) -> int:
    """The epoch after which the learning rate's schedule began: 0, or where a treatment began it anew."""
    return max((one.after for one in treatments if one.restarts), default=0)
