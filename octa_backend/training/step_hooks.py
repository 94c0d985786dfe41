"""What a stepper tells of each step to whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from octa_backend.training.batches import Batch
    from octa_backend.training.step import Step

Logits = Tensor | Sequence[Tensor]
"""Logits (B, K, *spatial), or those of several levels, finest first (deep supervision)."""


class StepHooks:
    """The moments of a step, in their order. Here nothing becomes of them; `signals.Signals` measures."""

    def before_step(self) -> None:
        """A batch is about to be computed; told again for each try, where memory ran out or fp16 overflowed."""

    def after_forward(self, logits: Logits, part: Batch) -> None:
        """A part of the batch has its logits."""

    def overflowed(self) -> None:
        """The gradients overflowed fp16; the batch is computed again."""

    def before_update(self) -> None:
        """The gradients of the whole batch are there, unscaled, finite and not clipped yet."""

    def after_step(self, step: Step) -> None:
        """The optimizer has changed the weights."""


def finest(logits: Logits) -> Tensor:
    """The logits at the scan's own resolution."""
    return logits if isinstance(logits, Tensor) else logits[0]
