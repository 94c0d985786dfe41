"""The training loop. `emit` and `should_stop` are its whole outside world; it stops between batches only.

Shapes: B scans, C channels, K output channels, H x W pixels.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from octa_backend.diagnosis.training import gradient_verdict
from octa_backend.errors import TrainingDiverged
from octa_backend.models import registry
from octa_backend.training import memory
from octa_backend.training.batches import TrainingData, steps_per_epoch, training_batches
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.evaluation import Evaluated, ShouldStop, evaluate
from octa_backend.training.events import EpochFinished, Event, StepFinished
from octa_backend.training.losses import Loss, compute_loss, make_loss
from octa_backend.training.metrics import mean_score
from octa_backend.training.optim import WeightAverage, learning_rate, make_optimizer
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: all epochs done, or stopped when asked to. `best` is None if no epoch was finished."""

    finished: bool
    best: Best | None


@dataclass(slots=True)
class _Run:
    """The moving parts of one training."""

    plan: Plan
    data: TrainingData
    network: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    loss: Loss
    groups: Mapping[str, list[nn.Parameter]]
    generator: torch.Generator
    emit: Emit
    should_stop: ShouldStop

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "average_steps": self.average.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.average.steps = state["average_steps"]


@dataclass(frozen=True, slots=True)
class _Step:
    """The numbers of one step, and how many scans it saw."""

    scans: int
    components: dict[str, float]
    gradient_norms: dict[str, float]
    lr: float


def build_network(plan: Plan) -> nn.Module:
    """The plan's network with fresh weights from the plan's seed, on the plan's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.config.seed)
        network = registry.build(plan.config.model, plan.channels, plan.out_channels)
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    return network.to(plan.device).to(memory_format=layout)


def fit(data: TrainingData, plan: Plan, *, checkpoints: Checkpoints, emit: Emit, should_stop: ShouldStop) -> Outcome:
    """Train until the plan's last epoch, or until asked to stop; go on from the last checkpoint where there is one.

    Args:
        data: the scans.
        plan: what to compute.
        checkpoints: keeps the last and the best epoch.
        emit: is told of every step and every epoch. The last epoch of an earlier attempt is told again.
        should_stop: asked between batches.

    Raises:
        TrainingDiverged: the loss is not finite; the weights were not changed by that step.
    """
    run = _start(data, plan, emit, should_stop)
    index = checkpoints.index
    first_epoch = 1
    if index is not None:
        state, report = checkpoints.load_last(run.network, run.average.averaged)
        run.restore(state)
        emit(report)  # its attempt may have died after the checkpoint, before it could tell
        first_epoch = index.last + 1
    best = index.best if index else None
    for epoch in range(first_epoch, plan.config.epochs + 1):
        start = time.perf_counter()
        steps = _train_one_epoch(run, epoch)
        if steps is None:
            return Outcome(finished=False, best=best)
        trained = time.perf_counter() - start
        validated = evaluate(run.average.averaged, data, plan, run.loss, data.val, should_stop)
        if validated is None:
            return Outcome(finished=False, best=best)
        report = _report(run, epoch, steps, validated, trained, time.perf_counter() - start)
        best = checkpoints.save(report, run.network, run.average.averaged, run.state())
        emit(report)
    return Outcome(finished=True, best=best)


def _start(data: TrainingData, plan: Plan, emit: Emit, should_stop: ShouldStop) -> _Run:
    network = build_network(plan)
    averaged = copy.deepcopy(network).eval()
    return _Run(
        plan=plan,
        data=data,
        network=network,
        average=WeightAverage(network, averaged, plan.config.ema_decay),
        optimizer=make_optimizer(network, plan.config),
        loss=make_loss(plan.config),
        groups=network.gradient_groups(),  # type: ignore[operator]
        generator=torch.Generator().manual_seed(plan.config.seed),
        emit=emit,
        should_stop=should_stop,
    )


def _train_one_epoch(run: _Run, epoch: int) -> list[_Step] | None:
    """Every training scan once; None if asked to stop on the way."""
    run.network.train()
    count = steps_per_epoch(run.data.train, run.plan)
    done = []
    for number, (image, mask) in enumerate(training_batches(run.data, run.plan, run.generator), start=1):
        if run.should_stop():
            return None
        lr = learning_rate(run.plan.config, epoch, number, count)
        step = _train_one_step(run, image, mask, lr)
        loss = _weighted_sum(run.loss.weights, step.components)
        run.emit(StepFinished(epoch, number, count, loss, step.components, lr, step.gradient_norms))
        done.append(step)
    return done


def _train_one_step(run: _Run, image: Tensor, mask: Tensor, lr: float) -> _Step:
    """Forward, backward, a check that all is finite, and only then the optimizer's step."""
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.optimizer.zero_grad(set_to_none=True)
    with autocast(run.plan.device, run.plan.config.precision):
        logits = run.network(image)
    result = compute_loss(run.loss, logits, mask)
    torch.autograd.backward(result.total)
    norms = {
        name: torch.nn.utils.get_total_norm([p.grad for p in group if p.grad is not None])
        for name, group in run.groups.items()
    }
    # One transfer for all numbers: on a GPU each `.item()` would wait for the device.
    numbers = torch.stack([*result.components.values(), *norms.values()]).detach().tolist()
    components = dict(zip(result.components, numbers, strict=False))
    gradient_norms = dict(zip(norms, numbers[len(components) :], strict=True))
    _require_finite(components, gradient_norms)
    run.optimizer.step()
    run.average.update()
    return _Step(image.shape[0], components, gradient_norms, lr)


def _require_finite(components: Mapping[str, float], gradient_norms: Mapping[str, float]) -> None:
    broken = [name for name, value in {**components, **gradient_norms}.items() if not math.isfinite(value)]
    if broken:
        raise TrainingDiverged(
            f"{', '.join(broken)} became NaN or infinite; the last finished epoch is kept. Usual causes: the learning "
            "rate is too high (try a tenth of it), or a scan holds NaN"
        )


def _weighted_sum(weights: Mapping[str, float], components: Mapping[str, float]) -> float:
    return sum(weights[name] * value for name, value in components.items())


def _report(
    run: _Run, epoch: int, steps: list[_Step], validated: Sequence[Evaluated], trained_seconds: float, seconds: float
) -> EpochFinished:
    scans = sum(step.scans for step in steps)
    components = {name: sum(step.components[name] * step.scans for step in steps) / scans for name in run.loss.weights}
    norms = {name: fmean(step.gradient_norms[name] for step in steps) for name in run.groups}
    score = mean_score([scan.score for scan in validated])
    return EpochFinished(
        epoch=epoch,
        train_loss=_weighted_sum(run.loss.weights, components),
        loss_components=components,
        val_loss=fmean(scan.loss for scan in validated),
        val_dice=score.dice,
        val_iou=score.iou,
        val_precision=score.precision,
        val_recall=score.recall,
        lr=steps[-1].lr,
        seconds=seconds,
        scans_per_second=scans / trained_seconds,
        peak_memory_mb=memory.peak_mib(run.plan.device),
        gradient_norms=norms,
        gradient_verdict=gradient_verdict(norms),
    )
