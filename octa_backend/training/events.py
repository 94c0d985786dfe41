"""What the trainer tells the world while it runs. Plain data; the worker stores it, the CLI draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.run_history import StartChecks

GRADIENT_GROUPS = ("encoder_conv1", "encoder_last", "decoder_first", "decoder_output")
"""The four gradient groups of every network, from the input to the output."""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """One optimizer step. `gradient_norms` are L2 norms per gradient group, before clipping and before the step."""

    epoch: int
    step: int
    steps: int
    loss: float
    loss_components: dict[str, float]
    lr: float
    gradient_norms: dict[str, float]


@dataclass(frozen=True, slots=True)
class EpochFinished:
    """The numbers of one epoch. Losses are means over the epoch's training scans; Dice etc. means over scans.

    `train_loss` is exactly the weighted sum of `loss_components`; `peak_memory_mb` is the process's (or GPU's) so far.
    An epoch that was not validated (`val_freq`) repeats the `val_` numbers of the last one that was. `per_class` is
    None for binary masks, else what `metrics.mean_per_class` says of each foreground class. `signals` has the fields of
    `diagnosis.run_history.EpochSignals`; `plateau` is what the training doctor says of the losses so far.
    """

    epoch: int
    train_loss: float
    loss_components: dict[str, float]
    val_loss: float
    val_dice: float
    val_iou: float
    val_precision: float
    val_recall: float
    lr: float
    seconds: float
    scans_per_second: float
    peak_memory_mb: float
    gradient_norms: dict[str, float]
    gradient_verdict: str
    plateau: dict[str, Any] | None = None
    per_class: list[dict[str, Any]] | None = None
    signals: dict[str, Any] | None = None


def seconds_per_batch(scans_per_second: float, batch_size: int) -> float:
    """How long a full batch took on average in training, seconds; one of the last batches may have been smaller."""
    return batch_size / scans_per_second


@dataclass(frozen=True, slots=True)
class FindingNoticed:
    """Something about the run that its user should know."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class RunTreated:
    """The run goes on otherwise: what was told of later epochs than `after` counts no more. Told again on resuming.

    `plan` is the one that holds now (`Plan` as JSON), its last treatment says what was done; `finding` tells a user.
    """

    after: int
    plan: dict[str, Any]
    finding: Finding


@dataclass(frozen=True, slots=True)
class StartChecked:
    """What was tried before the first step; told once in a run's life."""

    checks: StartChecks


Event = StepFinished | EpochFinished | FindingNoticed | StartChecked | RunTreated
