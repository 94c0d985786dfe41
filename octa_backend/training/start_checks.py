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
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.optim import Adam

from octa_backend.diagnosis.run_history import TRIALS, StartChecks
from octa_backend.inference.probability import predicted_classes
from octa_backend.models.regions import class_logits
from octa_backend.training.batches import Batch, TrainingData, training_batches
from octa_backend.training.determinism import reproducible
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.losses import Loss, compute_loss, make_loss
from octa_backend.training.lr_finder import HIGHEST, STEPS, RangeTest, range_test
from octa_backend.training.memory import is_exhausted
from octa_backend.training.metrics import counts_at_all, mean_of_classes, score_classes
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast
from octa_backend.training.step_hooks import Logits, finest

SECONDS_LEAST, SECONDS_LIMIT = 5.0, 20.0
"""All checks together end about between these, whatever the network; the last step that began is finished."""

SHARE_OF_RUN = 0.05
"""Of the time that the run will take at least: within the limits, the checks have so much."""

SIDES = {("cpu", 2): 64, ("cpu", 3): 32, ("cuda", 2): 128, ("cuda", 3): 64}
"""Longest side of a patch, pixels, by kind of device and number of axes."""

PATCHES = 2
"""Of the batch: some networks normalise over the batch and cannot learn from one."""

OVERFIT_STEPS = 100
OVERFIT_DICE = 0.8
"""A network that can learn knows two small patches by heart, to this Dice, long before so many steps."""

FEWEST_SWEPT = 50
"""A range test in fewer steps leaps over the rates that it looks for."""

STEPS_FOR_BOTH = 100
"""With time for so many steps the range test comes first, in half of it: without it nobody knows whether the rate is to
blame for a batch that was not learnt. With less, one batch tells more, and takes fewer steps where it is learnt."""

WITHOUT_EXPECTATION = ("cldice",)
"""Losses whose value for logits of 0 says nothing: a flat map has no skeleton, one that is nearly flat has."""


def start_checks(
    network: nn.Module,
    data: TrainingData,
    plan: Plan,
    should_stop: ShouldStop,
    seconds_limit: float | None = None,
) -> StartChecks:
    """Try a network on one batch and under rising learning rates; it stays as it is, and so do all random numbers.

    Args:
        network: with the weights that the training begins with, on the plan's device.
        data: the scans.
        plan: with nothing left open.
        should_stop: asked between steps.
        seconds_limit: for all checks; None: what `time_limit` says once a step is timed.

    Returns:
        What was found; None for each number that time, data or loss do not allow.
    """
    clock = _Clock(_time_of(plan.device), SECONDS_LEAST if seconds_limit is None else seconds_limit, should_stop)
    small = _shrunk(plan)
    with reproducible(plan.config.seed, plan.device, deterministic=plan.config.deterministic):
        batch = _telling_batch(data, small)
        if batch is None or clock.over():
            return _nothing("no_batch" if batch is None else "time")
        try:
            trial = _Trial(copy.deepcopy(network).train(), make_loss(plan.config, plan.region_targets), small, batch)
            checks, step_seconds = _first_loss(trial), _step_seconds(trial, clock)
            if seconds_limit is None:
                clock.allow(time_limit(plan, len(data.train), step_seconds))
            is_ample = clock.left() >= STEPS_FOR_BOTH * step_seconds
            sweep = partial(_sweep_rates, network, data, small, step_seconds / (0.5 if is_ample else 1.0))
            overfit = partial(_overfit_batch, trial)
            for attempt in (sweep, overfit) if is_ample else (overfit, sweep):
                checks = attempt(checks, clock)
        except RuntimeError as error:
            if not is_exhausted(error):
                raise
            return _nothing("memory")  # the run itself may do with less: it computes a batch in parts
        return checks


def _nothing(reason: str) -> StartChecks:
    return StartChecks(not_tried=dict.fromkeys(TRIALS, reason))


def time_limit(plan: Plan, scans: int, step_seconds: float) -> float:
    """How long all checks together may take, seconds.

    Args:
        plan: of the run.
        scans: how many train.
        step_seconds: of one forward and backward pass over the small batch of the checks. A CPU takes the longer the
            more pixels there are; a GPU takes hardly longer for large patches than for small ones, so for it this is
            the least that a step of the run takes.

    Returns:
        `SHARE_OF_RUN` of the whole run, from `SECONDS_LEAST` to `SECONDS_LIMIT`.
    """
    small = _shrunk(plan)
    larger = 1.0
    if torch.device(plan.device).type == "cpu":
        larger = plan.scans_per_step * math.prod(plan.patch_shape) / (small.batch_size * math.prod(small.patch_shape))
        larger *= plan.growth.mean_share()
    run_seconds = plan.epochs * plan.steps(scans) * step_seconds * larger
    if plan.config.max_minutes:
        run_seconds = min(run_seconds, 60 * plan.config.max_minutes)
    return min(max(SHARE_OF_RUN * run_seconds, SECONDS_LEAST), SECONDS_LIMIT)


def _time_of(device: str) -> Callable[[], float]:
    """What tells the seconds.

    On a CPU those that this thread computes: beside other work everything takes longer, the run as well, and what is
    found should not depend on it.
    """
    return time.thread_time if torch.device(device).type == "cpu" else time.monotonic


class _Clock:
    """Says when the checks are over: their time, or the run's."""

    def __init__(self, now: Callable[[], float], seconds: float, should_stop: ShouldStop) -> None:
        self.now = now
        self._start = now()
        self._seconds, self._should_stop = seconds, should_stop

    def allow(self, seconds: float) -> None:
        """Set another limit, counted from the same start."""
        self._seconds = seconds

    def left(self) -> float:
        """Seconds until the limit; negative beyond it."""
        return self._start + self._seconds - self.now()

    def over(self) -> bool:
        """Whether to end here."""
        return self.left() <= 0 or self._should_stop()


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
    return next((batch for batch in batches if (batch.mask > 0).any() and (batch.mask == 0).any()), None)


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
        return logits, compute_loss(self.loss, logits, self.batch.mask, self.batch.gap).total


def _first_loss(trial: _Trial) -> StartChecks:
    """The loss before any step, what it should be, and the rate of the steps that are to follow."""
    with torch.no_grad():
        logits, initial = trial.compare(trial.batch.image)
    return StartChecks(
        lr=_rate(trial.plan),
        initial_loss=_finite(initial),
        expected_initial_loss=expected_loss(trial, finest(logits).shape),
    )


def _rate(plan: Plan) -> float:
    assert isinstance(plan.config.lr, float), "complete_plan resolves it"
    return plan.config.lr


def _step_seconds(trial: _Trial, clock: _Clock) -> float:
    """Of a forward and a backward pass; the weights stay, and an earlier pass has warmed the device up."""
    start = clock.now()
    torch.autograd.backward(trial.compare(trial.batch.image)[1])
    trial.network.zero_grad(set_to_none=True)
    if trial.plan.device.startswith("cuda"):
        torch.cuda.synchronize(trial.plan.device)
    return clock.now() - start


def _overfit_batch(trial: _Trial, checks: StartChecks, clock: _Clock) -> StartChecks:
    """The same with what a network tells that sees one batch again and again."""
    image = trial.batch.image
    dice, steps = _overfit(trial, clock.over)
    if dice is None:
        return replace(checks, not_tried={**checks.not_tried, "overfit": "time"})
    with torch.no_grad():
        loss, zeroed = (_finite(trial.compare(tried)[1]) for tried in (image, torch.zeros_like(image)))
    return replace(checks, overfit_dice=dice, overfit_steps=steps, loss=loss, zeroed_input_loss=zeroed)


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
    batch = trial.batch
    return _finite(compute_loss(trial.loss, batch.image.new_zeros(shape), batch.mask, batch.gap).total)


def _overfit(trial: _Trial, over: Callable[[], bool]) -> tuple[float | None, int]:
    """The best Dice within `OVERFIT_STEPS` steps of Adam at the run's rate, None if the time ended first; and steps."""
    image, mask, _ = trial.batch
    optimizer = Adam(trial.network.parameters(), lr=_rate(trial.plan))
    best = 0.0
    for step in range(OVERFIT_STEPS + 1):
        if over():
            return None, step
        logits, loss = trial.compare(image)
        best = max(best, _dice(finest(logits).detach(), mask, trial.plan))
        if best >= OVERFIT_DICE or step == OVERFIT_STEPS or not torch.isfinite(loss):
            break
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return best, step


def _dice(logits_BC: Tensor, mask_B: Tensor, plan: Plan) -> float:
    found = predicted_classes(class_logits(logits_BC, plan.region_order))
    counting = [(one, true) for one, true in zip(found, mask_B, strict=True) if counts_at_all(true)]
    return fmean(mean_of_classes(score_classes(one, true, plan.classes)).dice for one, true in counting)


def _sweep_rates(
    network: nn.Module, data: TrainingData, plan: Plan, step_seconds: float, checks: StartChecks, clock: _Clock
) -> StartChecks:
    """The same with what a range test found, in as many steps of that time as are left."""
    found = None
    if clock.left() >= FEWEST_SWEPT * step_seconds:
        found = range_test(network, data, plan, clock.over, min(STEPS, int(clock.left() / step_seconds)))
    if found is None:
        return replace(checks, not_tried={**checks.not_tried, "rates": "time"})
    return replace(checks, lr_found=found.suggestion, lr_diverges=divergence(found))


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
