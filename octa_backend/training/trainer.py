"""The training loop. `emit` and `should_stop` are its whole outside world; it stops between batches only.

Shapes: B scans, C channels, K output channels, *spatial pixels or voxels.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

import torch
from torch import nn

from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.training import gradient_verdict
from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.models import registry
from octa_backend.training import memory
from octa_backend.training.batches import TrainingData, steps_per_epoch, training_batches
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.determinism import generator_states, reproducible, restore_generators
from octa_backend.training.evaluation import Evaluated, ShouldStop, evaluate
from octa_backend.training.events import EpochFinished, Event, FindingNoticed, StepFinished
from octa_backend.training.initial_weights import InitialWeights, take_weights
from octa_backend.training.metrics import ScanScore, mean_per_class, mean_score
from octa_backend.training.optim import WeightAverage, restore_optimizer
from octa_backend.training.plan import Plan
from octa_backend.training.precision import memory_format
from octa_backend.training.schedules import Schedule
from octa_backend.training.signals import Signals
from octa_backend.training.step import Step, Stepper
from octa_backend.training.stopping import Limits

Emit = Callable[[Event], None]

Show = Callable[[int, nn.Module], None]
"""Given the number of a finished epoch and the network that is validated and published, in evaluation mode."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: whether it came to its end; False if it was asked to stop.
        best: the epoch to publish; None if no epoch was finished.
        ended_early: why it came to its end before its last epoch (`patience`, `max_minutes`), else None.
    """

    finished: bool
    best: Best | None
    ended_early: Finding | None = None


@dataclass(frozen=True, slots=True)
class _Validation:
    """The latest validation: mean loss and mean overlap over its scans, of several classes each alone as well."""

    loss: float
    score: ScanScore
    per_class: list[dict[str, Any]] | None

    @classmethod
    def of(cls, scans: Sequence[Evaluated], plan: Plan) -> _Validation:
        classes = [scan.classes for scan in scans]
        per_class = mean_per_class(classes, plan.config.ignore_index) if plan.classes > 2 else None
        return cls(fmean(scan.loss for scan in scans), mean_score([scan.score for scan in scans]), per_class)

    @classmethod
    def told_in(cls, report: EpochFinished) -> _Validation:
        score = ScanScore(report.val_dice, report.val_iou, report.val_precision, report.val_recall)
        return cls(report.val_loss, score, report.per_class)


@dataclass(slots=True)
class _Run:
    """The moving parts of one training."""

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
    validation: _Validation | None = None
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps = steps_per_epoch(self.data.train, self.plan)

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


def build_network(plan: Plan) -> nn.Module:
    """The plan's network with fresh weights from the plan's seed, on the plan's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.config.seed)
        network = registry.build(
            plan.config.model, plan.channels, plan.out_channels, len(plan.patch_shape), plan.config.deep_supervision
        )
    layout = memory_format(plan.channels_last, len(plan.patch_shape))
    return network.to(plan.device).to(memory_format=layout)


def fit(
    data: TrainingData,
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    emit: Emit,
    should_stop: ShouldStop,
    initial: InitialWeights | None = None,
    show: Show | None = None,
) -> Outcome:
    """Train until the plan's last epoch, or until asked to stop; go on from the last checkpoint where there is one.

    Args:
        data: the scans.
        plan: what to compute.
        checkpoints: keeps the last and the best epoch.
        emit: is told of every step, every epoch and every finding. The last epoch of an earlier attempt is told again.
        should_stop: asked between batches.
        initial: weights to begin with in place of fresh ones; a run that goes on has its own and does not read them.
        show: given the network after each epoch.

    Raises:
        TrainingDiverged: the loss is not finite; the weights were not changed by that step.
        InvalidConfig: the device's memory does not hold a single scan.
        IncompatibleCheckpoint: the checkpoint is of another network or another version, or no initial weight fits.
        ModelNotFound: the initial weights are not there.
    """
    with reproducible(plan.config.seed, plan.device, deterministic=plan.config.deterministic):
        run = _start(data, plan, checkpoints, emit, should_stop, initial)
        run.show = show
        first_epoch = _go_on(run)
        for epoch in range(first_epoch, plan.epochs + 1):
            ended = run.limits.out_of_patience(epoch - 1, run.best)
            outcome = _end_early(run, ended) if ended else _one_epoch(run, epoch)
            if outcome is not None:
                return outcome
        return Outcome(finished=True, best=run.best)


def _start(
    data: TrainingData,
    plan: Plan,
    checkpoints: Checkpoints,
    emit: Emit,
    should_stop: ShouldStop,
    initial: InitialWeights | None,
) -> _Run:
    network = build_network(plan)
    if initial is not None and checkpoints.last == 0:
        emit(FindingNoticed(take_weights(network, initial)))
    averaged = copy.deepcopy(network).eval()

    def notice(finding: Finding) -> None:
        emit(FindingNoticed(replace(finding, epoch=run.epoch)))

    compiled = plan.config.compile == "on"
    signals = Signals(network, plan, compiled=compiled)
    run = _Run(
        plan=plan,
        data=data,
        network=network,
        average=WeightAverage(network, averaged, plan.config.ema_decay),
        stepper=Stepper(network, plan, notice, compiled=compiled, hooks=signals),
        signals=signals,
        schedule=Schedule(plan.config),
        limits=Limits(plan.config),
        generator=torch.Generator().manual_seed(plan.config.seed),
        checkpoints=checkpoints,
        emit=emit,
        should_stop=should_stop,
    )
    return run


def _go_on(run: _Run) -> int:
    """Load the last checkpoint where there is one; return the epoch to begin with."""
    index = run.checkpoints.index
    run.best = index.best if index else None
    if index is None or index.last == 0:
        return 1
    state, report = run.checkpoints.load_last(run.network, run.average.averaged)
    run.restore(state, index.last)
    run.validation = _Validation.told_in(report)
    run.emit(report)  # its attempt may have died after the checkpoint, before it could tell
    return index.last + 1


def _one_epoch(run: _Run, epoch: int) -> Outcome | None:
    """Train, validate and save; None if the run goes on."""
    run.epoch = epoch
    start = time.perf_counter()
    steps = _train(run)
    if isinstance(steps, Outcome):
        return steps
    trained = time.perf_counter() - start
    if run.validation is None or _is_due(epoch, run.plan.config.val_freq, run.plan):
        scans = evaluate(run.average.averaged, run.data, run.plan, run.stepper.loss, run.data.val, run.should_stop)
        if scans is None:
            return Outcome(finished=False, best=run.best)
        run.validation = _Validation.of(scans, run.plan)
        run.schedule.see(epoch, run.validation.score.dice)
    report = _report(run, steps, run.validation, trained, time.perf_counter() - start)
    run.best = Best.of(report, run.best)
    _save(run, report)
    if run.show is not None:
        run.show(epoch, run.average.averaged)
    run.emit(report)
    return None


def _is_due(epoch: int, every: int, plan: Plan) -> bool:
    return epoch % every == 0 or epoch == plan.epochs


def _train(run: _Run) -> list[Step] | Outcome:
    """Every training scan once, or how the run ended on the way."""
    run.network.train()
    done = []
    batches = run.signals.batches(training_batches(run.data, run.plan, run.generator))
    for number, (image, mask) in enumerate(batches, start=1):
        if run.should_stop():
            return Outcome(finished=False, best=run.best)
        out_of_time = run.limits.out_of_time(run.epoch, run.best)
        if out_of_time:
            return _end_early(run, out_of_time)
        step = run.stepper.step(image, mask, run.schedule.rate(run.epoch, number, run.steps))
        run.average.update()
        loss = _weighted_sum(run, step.components)
        run.emit(StepFinished(run.epoch, number, run.steps, loss, step.components, step.lr, step.gradient_norms))
        done.append(step)
    return done


def _end_early(run: _Run, finding: Finding) -> Outcome:
    run.emit(FindingNoticed(finding))
    return Outcome(finished=True, best=run.best, ended_early=finding)


def _save(run: _Run, report: EpochFinished) -> None:
    config, epoch = run.plan.config, report.epoch
    is_kept = _is_due(epoch, config.save_freq, run.plan) or run.limits.out_of_patience(epoch, run.best) is not None
    state = run.state() if is_kept else None
    plan = run.plan.model_dump(mode="json")
    run.checkpoints.save(report, run.network, run.average.averaged, state, keep_last=config.keep_last, plan=plan)


def _weighted_sum(run: _Run, components: dict[str, float]) -> float:
    return sum(run.stepper.loss.weights[name] * value for name, value in components.items())


def _report(
    run: _Run, steps: list[Step], validation: _Validation, trained_seconds: float, seconds: float
) -> EpochFinished:
    scans = sum(step.scans for step in steps)
    names = run.stepper.loss.weights
    components = {name: sum(step.components[name] * step.scans for step in steps) / scans for name in names}
    norms = {name: fmean(step.gradient_norms[name] for step in steps) for name in steps[0].gradient_norms}
    return EpochFinished(
        epoch=run.epoch,
        train_loss=_weighted_sum(run, components),
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
