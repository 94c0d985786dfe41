"""The moving parts of one training, and what of them a checkpoint keeps.

Shapes: B scans, C channels, K output channels, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import nn

from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.training.batches import Batch, TrainingData, steps_per_epoch
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.determinism import generator_states, restore_generators
from octa_backend.training.evaluation import Evaluated, ShouldStop
from octa_backend.training.events import EpochFinished, Event
from octa_backend.training.metrics import NOTHING, ScanScore, mean_per_class, mean_score
from octa_backend.training.norm_statistics import BATCHES, YOUNG_STEPS
from octa_backend.training.optim import WeightAverage, restore_optimizer
from octa_backend.training.plan import Plan
from octa_backend.training.schedules import Schedule
from octa_backend.training.signals import Signals
from octa_backend.training.step import Stepper
from octa_backend.training.stopping import Limits

Emit = Callable[[Event], None]

Show = Callable[[int, nn.Module], None]
"""Given the number of a finished epoch and the network that is validated and published, in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The latest validation: mean loss and mean overlap over its scans, of several classes each alone as well."""

    loss: float
    score: ScanScore
    per_class: list[dict[str, Any]] | None

    @classmethod
    def of(cls, scans: Sequence[Evaluated], plan: Plan) -> Validation:
        """Mean over the scans in which a pixel counts; where none does in any, nothing was learnt: 0."""
        counted = [(scan.loss, scan.score) for scan in scans if scan.score is not None]
        losses, scores = zip(*counted, strict=True) if counted else ([0.0], [NOTHING])
        classes = [scan.classes for scan in scans]
        per_class = mean_per_class(classes, plan.config.ignore_index) if plan.classes > 2 else None
        return cls(fmean(losses), mean_score(scores), per_class)

    @classmethod
    def told_in(cls, report: EpochFinished) -> Validation:
        """The one that an epoch's report has."""
        score = ScanScore(report.val_dice, report.val_iou, report.val_precision, report.val_recall)
        return cls(report.val_loss, score, report.per_class)


@dataclass(slots=True)
class Run:
    """The moving parts of one training.

    Attributes:
        recent: the last batches of the epoch, while the run is young.
    """

    plan: Plan
    data: TrainingData
    network: nn.Module
    average: WeightAverage
    stepper: Stepper
    signals: Signals
    schedule: Schedule
    limits: Limits
    generator: torch.Generator
    checkpoints: Checkpoints
    emit: Emit
    should_stop: ShouldStop
    show: Show | None = None
    epoch: int = 0
    best: Best | None = None
    validation: Validation | None = None
    recent: deque[Batch] = field(default_factory=partial(deque, maxlen=BATCHES))
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps = steps_per_epoch(self.data.train, self.plan)

    @property
    def is_young(self) -> bool:
        """Whether the running statistics of norms may lag behind the weights."""
        return self.average.steps <= YOUNG_STEPS

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {
            "optimizer_name": self.plan.config.optimizer,
            "optimizer": self.stepper.optimizer.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "micro_batch": self.stepper.micro_batch,
            "schedule": self.schedule.state_dict(),
            "limits": self.limits.state_dict(),
            "generator": self.generator.get_state(),
            "torch_generators": generator_states(self.plan.device),
            "average_steps": self.average.steps,
        }

    def restore(self, state: dict[str, Any], epoch: int) -> None:
        """Go on from a checkpoint's state; another optimizer than it was trained with starts without moments."""
        try:
            if state["optimizer_name"] == self.plan.config.optimizer:
                restore_optimizer(self.stepper.optimizer, state["optimizer"])
            if self.stepper.scaler.is_enabled() and state["scaler"]:
                self.stepper.scaler.load_state_dict(state["scaler"])
            self.stepper.micro_batch = min(self.stepper.micro_batch, state["micro_batch"])
            self.schedule.load_state_dict(state["schedule"])
            self.limits.load_state_dict(state["limits"], epoch)
            self.generator.set_state(state["generator"])
            restore_generators(state["torch_generators"], self.plan.device)
            self.average.steps = state["average_steps"]
        except (KeyError, ValueError) as error:
            raise IncompatibleCheckpoint(
                f"the checkpoint of epoch {epoch} was written by another version of this program or by another "
                "network; start the training anew"
            ) from error
