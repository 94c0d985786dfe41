"""The numbers of an epoch, out of its steps and its validation."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

from octa_backend.diagnosis.training import gradient_verdict
from octa_backend.training import memory
from octa_backend.training.events import EpochFinished
from octa_backend.training.run import Run, Validation
from octa_backend.training.step import Step


def weighted_sum(run: Run, components: dict[str, float]) -> float:
    """The loss that these components make."""
    return sum(run.stepper.loss.weights[name] * value for name, value in components.items())


def report_of(
    run: Run, steps: list[Step], validation: Validation, trained_seconds: float, seconds: float
) -> EpochFinished:
    """What is told of an epoch.

    Args:
        run: at this epoch.
        steps: all of the epoch's.
        validation: the latest.
        trained_seconds: that the steps took.
        seconds: that the epoch took.
    """
    scans = sum(step.scans for step in steps)
    names = run.stepper.loss.weights
    components = {name: sum(step.components[name] * step.scans for step in steps) / scans for name in names}
    norms = {name: fmean(step.gradient_norms[name] for step in steps) for name in steps[0].gradient_norms}
    return EpochFinished(
        epoch=run.epoch,
        train_loss=weighted_sum(run, components),
        loss_components=components,
        val_loss=validation.loss,
        val_dice=validation.score.dice,
        val_iou=validation.score.iou,
        val_precision=validation.score.precision,
        val_recall=validation.score.recall,
        lr=steps[-1].lr,
        seconds=seconds,
        scans_per_second=scans / trained_seconds,
        peak_memory_mb=memory.peak_mib(run.plan.device),
        gradient_norms=norms,
        gradient_verdict=gradient_verdict(norms),
        per_class=validation.per_class,
        signals=asdict(run.signals.epoch()),
    )
