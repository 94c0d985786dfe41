"""The learning rate range test: train a copy of the network while the rate rises, and see where the loss is least."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import nn

from octa_backend.errors import TrainingDiverged
from octa_backend.training.batches import Batch, TrainingData, training_batches
from octa_backend.training.determinism import reproducible
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.plan import Plan
from octa_backend.training.step import Stepper

LOWEST, HIGHEST = 1e-6, 1.0
"""Ends of the sweep; no rate above 1 is allowed."""

STEPS = 100
"""Steps of the sweep: the rate rises by 15 % with each."""

NEIGHBOURS = 5
"""Steps on either side that a loss is averaged with: each step sees other scans, whose losses differ."""

GIVE_UP = 4.0
"""The sweep ends where the loss is so many times the least one."""

LEAST_FALL = 0.02
"""A loss that never falls by this share below its first value says nothing about the rate."""

BACK_OFF = 0.1
"""Of the rate where the loss is least: there it stops falling because the rate is too high already."""


@dataclass(frozen=True, slots=True)
class RangeTest:
    """A sweep.

    Attributes:
        rates: the learning rate of each step.
        losses: each step's loss, before the step.
        smoothed: the same, averaged over neighbouring steps.
        suggestion: the learning rate to train with; None where the loss did not fall.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None


def range_test(
    network: nn.Module, data: TrainingData, plan: Plan, should_stop: ShouldStop, steps: int = STEPS
) -> RangeTest | None:
    """Sweep the learning rate over a copy of the network; the network itself stays as it is.

    Args:
        network: with the weights that the training begins with, on the plan's device.
        data: the scans; the training scans are seen as often as it takes.
        plan: its own learning rate is not looked at.
        should_stop: asked between steps.
        steps: of the sweep.

    Returns:
        The sweep, or None if asked to stop.

    Source:
        L. N. Smith, Cyclical Learning Rates for Training Neural Networks, 2015 (arXiv:1506.01186), section 3.3.
    """
    stepper = Stepper(copy.deepcopy(network).train(), plan, lambda _finding: None)
    rates = sweep(steps)
    losses: list[float] = []
    with reproducible(plan.config.seed, plan.device, deterministic=plan.config.deterministic):
        for rate, batch in zip(rates, _endless(data, plan), strict=False):
            if should_stop():
                return None
            try:
                step = stepper.step(batch, rate)
            except TrainingDiverged:
                break
            losses.append(sum(stepper.loss.weights[name] * value for name, value in step.components.items()))
            if losses[-1] > GIVE_UP * min(losses):
                break
    return evaluate_sweep(rates[: len(losses)], losses)


def _endless(data: TrainingData, plan: Plan) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(plan.config.seed)
    return itertools.chain.from_iterable(training_batches(data, plan, generator) for _ in itertools.count())


def sweep(steps: int) -> list[float]:
    """Rates from `LOWEST` to `HIGHEST`, each the same multiple of the one before."""
    return [LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1)) for step in range(steps)]


def evaluate_sweep(rates: Sequence[float], losses: Sequence[float]) -> RangeTest:
    """Smooth the losses and take a tenth of the rate at the least of them, to two digits.

    The mean over neighbours on both sides is taken rather than a running mean, which would lag behind and so find the
    least loss at too high a rate. A tenth of the rate at the least loss is less moved by the noise of single batches
    than the rate of the steepest fall, which is a difference of two noisy losses.

    Source:
        S. Gugger, How Do You Find A Good Learning Rate, 2018: one order of magnitude below the minimum.
    """
    smoothed = [fmean(losses[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1]) for i in range(len(losses))]
    return RangeTest(tuple(rates), tuple(losses), tuple(smoothed), _suggest(rates, smoothed))


def _suggest(rates: Sequence[float], smoothed: Sequence[float]) -> float | None:
    if not smoothed or min(smoothed) > (1 - LEAST_FALL) * smoothed[0]:
        return None
    best = BACK_OFF * rates[smoothed.index(min(smoothed))]
    return round(best, 1 - math.floor(math.log10(best)))
