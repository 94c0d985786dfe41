"""What is tried in the seconds before the first step: can this network learn from this data at all?

Everything happens on copies of the network, on small patches and with random numbers of its own: the run that follows
is the same as without. Patches have at most `SIDES` pixels a side and there are at most `PATCHES` of them, so that a
step of the largest network takes less than a second on a CPU; what the time does not suffice for stays None.

Shapes: B patches, K output channels, *spatial pixels or voxels.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.optim import Adam

from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.inference.probability import predicted_classes
from octa_backend.training.batches import TrainingData, training_batches
from octa_backend.training.determinism import reproducible
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.losses import Loss, compute_loss, make_loss
from octa_backend.training.lr_finder import HIGHEST, STEPS, RangeTest, range_test
from octa_backend.training.metrics import mean_of_classes, score_classes
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast
from octa_backend.training.step_hooks import Logits, finest

SECONDS_LIMIT = 20.0
"""All checks together end about here, whatever the network; the last step that began is finished."""

SIDES = {("cpu", 2): 64, ("cpu", 3): 32, ("cuda", 2): 128, ("cuda", 3): 64}
"""Longest side of a patch, pixels, by kind of device and number of axes."""

PATCHES = 2
"""Of the batch: some networks normalise over the batch and cannot learn from one."""

OVERFIT_STEPS = 100
OVERFIT_DICE = 0.8
"""A network that can learn knows two small patches by heart, to this Dice, long before so many steps."""

FEWEST_SWEPT = 50
"""A range test in fewer steps leaps over the rates that it looks for."""

WITHOUT_EXPECTATION = ("cldice",)
"""Losses whose value for logits of 0 says nothing: a flat map has no skeleton, one that is nearly flat has."""

Batch = tuple[Tensor, Tensor]
"""Images float32 (B, C, *spatial), normalised, and masks int64 (B, *spatial)."""


def start_checks(
    network: nn.Module,
    data: TrainingData,
    plan: Plan,
    should_stop: ShouldStop,
    seconds_limit: float = SECONDS_LIMIT,
) -> StartChecks:
    """Try a network on one batch and under rising learning rates; it stays as it is, and so do all random numbers.

    Args:
        network: with the weights that the training begins with, on the plan's device.
        data: the scans.
        plan: with nothing left open.
        should_stop: asked between steps.
        seconds_limit: for all checks.

    Returns:
        What was found; None for each number that time, data or loss do not allow.
    """
    deadline = time.monotonic() + seconds_limit
    small = _shrunk(plan)

    def over() -> bool:
        return time.monotonic() >= deadline or should_stop()

    with reproducible(plan.config.seed, plan.device, deterministic=plan.config.deterministic):
        batch = _telling_batch(data, small)
        if batch is None or over():
            return StartChecks()
        trial = _Trial(copy.deepcopy(network).train(), make_loss(plan.config), small, batch)
        checks, seconds_per_step = _try_batch(trial, over)
        if (deadline - time.monotonic()) < FEWEST_SWEPT * seconds_per_step:
            return checks
        found = range_test(
            network, data, small, over, min(STEPS, int((deadline - time.monotonic()) / seconds_per_step))
        )
    return checks if found is None else replace(checks, lr_found=found.suggestion, lr_diverges=divergence(found))


def _shrunk(plan: Plan) -> Plan:
    """The same plan for small patches, few at a time."""
    side = SIDES[torch.device(plan.device).type, len(plan.patch_shape)]
    config = plan.config.model_copy(update={"batch_size": min(PATCHES, plan.batch_size), "accumulation_steps": 1})
    shape = tuple(min(length, side) for length in plan.patch_shape)
    return plan.model_copy(update={"config": config, "patch_shape": shape})


def _telling_batch(data: TrainingData, plan: Plan) -> Batch | None:
    """The first batch of plain patches that holds foreground and background; None if an epoch has none."""
    plain = {"augmentation": "none", "augmentation_overrides": None, "foreground_oversampling": 1.0}
    plan = plan.model_copy(update={"config": plan.config.model_copy(update=plain)})
    generator = torch.Generator().manual_seed(plan.config.seed)
    batches = training_batches(data, plan, generator)
    return next(((image, mask) for image, mask in batches if (mask > 0).any() and (mask == 0).any()), None)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A copy of the network, in training mode, and the batch that it is tried on."""

    network: nn.Module
    loss: Loss
    plan: Plan
    batch: Batch

    def compare(self, image: Tensor) -> tuple[Logits, Tensor]:
        """Logits for an image, and their loss on the batch's masks; in fp32 where the run scales fp16's gradients."""
        precision = "fp32" if self.plan.config.precision == "fp16" else self.plan.config.precision
        with autocast(self.plan.device, precision):
            logits = self.network(image)
        return logits, compute_loss(self.loss, logits, self.batch[1]).total


def _try_batch(trial: _Trial, over: Callable[[], bool]) -> tuple[StartChecks, float]:
    """All that one batch tells, and the seconds that a step took."""
    image = trial.batch[0]
    with torch.no_grad():
        logits, initial = trial.compare(image)
    checks = StartChecks(
        initial_loss=_finite(initial), expected_initial_loss=expected_loss(trial, finest(logits).shape)
    )
    start = time.monotonic()
    dice, steps = _overfit(trial, over)
    seconds = (time.monotonic() - start) / (steps + 1)
    if dice is None:
        return checks, seconds
    with torch.no_grad():
        loss, zeroed = (_finite(trial.compare(tried)[1]) for tried in (image, torch.zeros_like(image)))
    return replace(checks, overfit_dice=dice, overfit_steps=steps, loss=loss, zeroed_input_loss=zeroed), seconds


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def expected_loss(trial: _Trial, shape: torch.Size) -> float | None:
    """The loss on the batch's masks of logits that are all 0, as those of an untrained network nearly are.

    A cross-entropy is then ln K, that of binary masks ln 2 times the mean weight of a pixel, 1 + (pos_weight - 1)·f
    with f the share of foreground; the soft Dice of n pixels is (f·n + 1) / (n/2 + f·n + 1) by its plain denominator.

    Args:
        trial: its loss and masks.
        shape: of the logits, (B, K, *spatial).

    Returns:
        The loss, or None for one of `WITHOUT_EXPECTATION`.
    """
    if trial.plan.config.loss in WITHOUT_EXPECTATION:
        return None
    image, mask = trial.batch
    return _finite(compute_loss(trial.loss, image.new_zeros(shape), mask).total)


def _overfit(trial: _Trial, over: Callable[[], bool]) -> tuple[float | None, int]:
    """The best Dice within `OVERFIT_STEPS` steps of Adam at the run's rate, None if the time ended first; and steps."""
    image, mask = trial.batch
    rate = trial.plan.config.lr
    assert rate != "auto", "complete_plan resolves it"
    optimizer = Adam(trial.network.parameters(), lr=rate)
    best = 0.0
    for step in range(OVERFIT_STEPS + 1):
        if over():
            return None, step
        logits, loss = trial.compare(image)
        best = max(best, _dice(finest(logits).detach(), mask, trial.plan.classes))
        if best >= OVERFIT_DICE or step == OVERFIT_STEPS or not torch.isfinite(loss):
            break
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return best, step


def _dice(logits_BK: Tensor, mask_B: Tensor, classes: int) -> float:
    found = predicted_classes(logits_BK)
    return fmean(
        mean_of_classes(score_classes(one, true, classes)).dice for one, true in zip(found, mask_B, strict=True)
    )


def divergence(found: RangeTest) -> float | None:
    """The least rate above that of the least loss from which the smoothed loss is above its first value.

    The last rate where the sweep ended early, because the loss grew too large or was not finite; None where the loss
    never fell, or stays below.
    """
    if found.suggestion is None:
        return None
    least = found.smoothed.index(min(found.smoothed))
    worse = (rate for rate, loss in zip(found.rates, found.smoothed, strict=True) if loss > found.smoothed[0])
    above = next((rate for rate in worse if rate > found.rates[least]), None)
    if above is None and found.rates[-1] < 0.99 * HIGHEST:
        return found.rates[-1]
    return above
