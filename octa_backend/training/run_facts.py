"""How a training was computed: its plan with the reasons, and what it cost in time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from octa_backend.training.events import seconds_per_batch
from octa_backend.training.plan import Plan


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a reader wants to know of the run behind a model.

    Attributes:
        config: the configuration, resolved.
        reasons: `field`, `value` and `reason` of each decision of the plan.
        patch_shape: (H, W) or (D, H, W) of a training sample.
        epochs: how many were finished.
        best_epoch: the one whose weights were scored.
        seconds_per_epoch: mean, with the validation.
        seconds_per_batch: mean, of training alone.
        scans_per_second: mean, training samples per second of training.
        peak_memory_mb: of the process or the GPU.
    """

    config: Mapping[str, Any]
    reasons: tuple[Mapping[str, Any], ...]
    patch_shape: tuple[int, ...]
    epochs: int
    best_epoch: int
    seconds_per_epoch: float
    seconds_per_batch: float
    scans_per_second: float
    peak_memory_mb: float

    @classmethod
    def of(cls, plan: Plan, history: Sequence[Mapping[str, Any]], best_epoch: int, scans: int) -> RunFacts:
        """From a plan and the epochs of its run.

        Args:
            plan: with its batch size resolved.
            history: the epochs, with the fields of `events.EpochFinished`; at least one.
            best_epoch: the one whose weights were scored.
            scans: how many train.
        """
        batch = min(plan.batch_size, scans * plan.patches_per_scan)
        speeds = [epoch["scans_per_second"] for epoch in history]
        return cls(
            config=plan.config.model_dump(mode="json"),
            reasons=tuple(reason.model_dump(mode="json") for reason in plan.reasons),
            patch_shape=plan.patch_shape,
            epochs=len(history),
            best_epoch=best_epoch,
            seconds_per_epoch=fmean(epoch["seconds"] for epoch in history),
            seconds_per_batch=fmean(seconds_per_batch(speed, batch) for speed in speeds),
            scans_per_second=fmean(speeds),
            peak_memory_mb=max(epoch["peak_memory_mb"] for epoch in history),
        )
