"""Is the step size right: learning rate, its schedule, batch size; and does the step wait for data?"""

from __future__ import annotations

import math

import numpy as np

from octa_backend.diagnosis.curves import WINDOW, Shape, shape
from octa_backend.diagnosis.run_checks_gradients import GROWN, growth
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.diagnosis.run_view import FALLING_SCHEDULES, USUAL_LR, RunView, Suspicion, ramp

BELOW_FOUND = (math.log10(1 / 8), math.log10(1 / 40))
"""Learning rate over that of the range test, in powers of ten. The test itself moves by a factor of 3 between seeds."""

BELOW_USUAL = (math.log10(1 / 30), math.log10(1 / 300))
"""Likewise over the optimizer's usual rate, where nothing was tried: networks differ by a factor of 10."""

SMALL_STEPS = (-3.5, -4.3)
"""Change of the weights per step relative to them, in powers of ten. Runs that learn have -3 to -1.7 at their peak."""

LARGE_STEPS = (-1.15, -0.75)
"""Likewise: from 7 % per step on weights are thrown rather than moved."""

UNFINISHED = (0.8, 0.6)
"""Skill from which nothing needs more speed, and below which slowness matters."""

ABOVE_FOUND = (math.log10(8), math.log10(40))
ABOVE_DIVERGING = (math.log10(0.7), math.log10(3))
"""Learning rate over that at which the range test diverged: at it, or beyond."""

ABOVE_USUAL = (math.log10(15), math.log10(100))
"""`tiny_unet` learns well with ten times the usual rate."""

LOSS_SWINGS = (0.08, 0.25)
"""Noise of the epochs' losses around their trend, as a share of their level; healthy runs stay below 0.06."""

LOSS_REBOUNDS = (0.15, 0.6)
"""How far the loss is above its own best, as a share of it, when it does not come down any more."""

SKILL_LOST = (0.02, 0.10)
"""Skill below the best so far: while the validation keeps what it had, a swinging loss alone throws nothing."""

VALIDATION_BREAKS = (10.0, 100.0)
"""Validation loss over its own first or last sane value: statistics of thrown weights do not fit."""

TRIED = 0.9
"""How far a rate that is far below the range test's tells by itself that steps are too small, whatever their size."""

LEAST_EPOCHS_HIGH = 3
LEAST_EPOCHS_LOW = 5
"""A slow start is told from a slow run by the end of five epochs; a thrown one shows sooner."""


def lr_too_low(view: RunView) -> Suspicion | None:
    """Steps are so small that the loss hardly moves, or would take far more epochs than are planned."""
    if len(view.epochs) < LEAST_EPOCHS_LOW:
        return None
    by_step = ramp(math.log10(max(view.update_ratio, 1e-12)), *SMALL_STEPS) if view.update_ratio else None
    by_rate = _by_rate(view, BELOW_FOUND, BELOW_USUAL)
    if by_step is None:
        small = by_rate * (1.0 if view.start.lr_found is not None else 0.8)
    else:
        small = max(by_step, TRIED * by_rate) if view.start.lr_found is not None else by_step
    confidence = 0.92 * small * ramp(view.skill, *UNFINISHED)
    evidence = {"lr": view.lr, "drop_percent": round(max(0.0, 100 * view.drop), 1), "update_ratio": view.update_ratio}
    return Suspicion("lr_too_low", confidence, evidence | _found(view))


def lr_too_high(view: RunView) -> Suspicion | None:
    """Weights are thrown: the loss swings or comes back up, weights grow, validation breaks; or the rate says so."""
    if len(view.epochs) < LEAST_EPOCHS_HIGH:
        return None
    by_step = ramp(math.log10(max(view.update_ratio, 1e-12)), *LARGE_STEPS) if view.update_ratio else 0.0
    grown = ramp(growth(view) or 0.0, *GROWN)
    large = max(by_step, grown, _too_fast(view))
    unstable = _instability(view)
    unfinished = ramp(view.skill, *UNFINISHED)
    badly = max(unstable, unfinished)
    together = large + unstable - large * unstable if min(large, unstable) > 0 else 0.0
    alone = 0.7 * unstable * max(unfinished, ramp(view.skill - view.skill_now, *SKILL_LOST))
    confidence = max(0.95 * large * (0.55 + 0.45 * badly), alone, 0.9 * together * badly)
    if view.is_warming_up:
        confidence *= 0.6  # losses that rise while the rate rises come down again
    evidence = {
        "lr": view.lr,
        "noise_percent": round(100 * view.relative_noise, 1),
        "above_best_percent": round(100 * _rebound(view), 1),
        "update_ratio": view.update_ratio,
    }
    return Suspicion("lr_too_high", confidence, evidence | _found(view))


def _by_rate(view: RunView, against_found: tuple[float, float], against_usual: tuple[float, float]) -> float:
    """How far the rate alone is off: against the range test, else against what is usual for the optimizer."""
    if view.start.lr_found:
        return ramp(math.log10(view.lr / view.start.lr_found), *against_found)
    usual = USUAL_LR.get(str(view.option("optimizer", "adam")), USUAL_LR["adam"])
    return 0.8 * ramp(math.log10(view.lr / usual), *against_usual)


def _too_fast(view: RunView) -> float:
    rate = _by_rate(view, ABOVE_FOUND, ABOVE_USUAL)
    if view.start.lr_diverges:
        rate = max(rate, ramp(math.log10(view.lr / view.start.lr_diverges), *ABOVE_DIVERGING))
    return 0.9 * rate


def _instability(view: RunView) -> float:
    """How much the loss swings or has come back up, or the validation has broken."""
    falls = view.shape in (Shape.UNCLEAR, Shape.IMPROVING)
    rebound = 0.0 if falls else ramp(_rebound(view), *LOSS_REBOUNDS)
    swings = ramp(view.relative_noise, *LOSS_SWINGS) if view.shape in (Shape.OSCILLATING, Shape.RISING) else 0.0
    return max(rebound, swings, _broken_validation(view))


def _rebound(view: RunView) -> float:
    """How far the better of the last two losses is above the best so far, as a share of it."""
    best = float(view.losses.min())
    return float(view.losses[-2:].min()) / best - 1 if best > 0 else 0.0


def _broken_validation(view: RunView) -> float:
    """Validation losses far above the training's: of the last three validations the least, so one bad one is none."""
    if len(view.val_losses) < 3 or view.loss_now <= 0:
        return 0.0
    return ramp(float(np.min(view.val_losses[-3:])) / view.loss_now, *VALIDATION_BREAKS)


def _found(view: RunView) -> dict[str, float | None]:
    return {"lr_found": view.start.lr_found, "lr_diverges": view.start.lr_diverges}


def bracket(start: StartChecks) -> tuple[float, float] | None:
    """The rates between which a range test gives no reason for doubt: where the checks above begin to; None without."""
    if start.lr_found is None:
        return None
    highest = start.lr_found * 10 ** ABOVE_FOUND[0]
    if start.lr_diverges is not None:
        highest = min(highest, start.lr_diverges * 10 ** ABOVE_DIVERGING[0])
    return start.lr_found * 10 ** BELOW_FOUND[0], highest


DECAYED = 0.02
"""Share of the peak below which a rate brings nothing any more."""

LEFT = (0.2, 0.4)
"""Share of the planned epochs that are wasted after the decay."""


def lr_decayed_early(view: RunView) -> Suspicion | None:
    """The schedule brought the learning rate to nearly nothing long before the end, and the loss stopped there."""
    if str(view.option("scheduler")) in FALLING_SCHEDULES:
        return None
    decayed = [e for e in view.epochs if e.lr < DECAYED * view.peak_lr]
    if len(decayed) < WINDOW[0] or shape([e.train_loss for e in decayed]) is Shape.IMPROVING:
        return None
    planned = view.history.epochs_planned
    wasted = (planned - decayed[0].epoch + 1) / planned
    unfinished = 0.3 + 0.7 * ramp(view.skill, 0.9, 0.7)
    evidence = {
        "epoch": decayed[0].epoch,
        "epochs": planned,
        "lr": view.epochs[-1].lr,
        "peak_lr": view.peak_lr,
        "scheduler": view.option("scheduler"),
    }
    return Suspicion("lr_decayed_early", 0.9 * ramp(wasted, *LEFT) * unfinished, evidence)


NOISY_BATCH = (math.log10(8), math.log10(60))
"""Gradient noise scale over scans per step, in powers of ten: far above 1, a step is mostly chance."""


def batch_too_noisy(view: RunView) -> Suspicion | None:
    """Progress is limited by noise: the loss stands still, the rate is high, and a batch is far below the noise scale.

    Source:
        S. McCandlish et al., An empirical model of large-batch training, 2018 (arXiv:1812.06162).
    """
    scale = view.recent(lambda signals: signals.noise_scale)
    if scale is None or scale <= 0 or view.shape in (Shape.IMPROVING, Shape.UNCLEAR):
        return None
    scans = int(view.option("batch_size", 2)) * int(view.option("accumulation_steps", 1))
    confidence = 0.85 * ramp(math.log10(scale / scans), *NOISY_BATCH) * (1.0 if view.rate_is_up else 0.3)
    evidence = {"noise_scale": round(scale, 1), "scans": scans}
    return Suspicion("batch_too_noisy", confidence * ramp(view.skill, 0.85, 0.7), evidence)


WAITS = (0.25, 0.5)
"""Share of a step's time that it waits for data."""


def data_loading_slow(view: RunView) -> Suspicion | None:
    """The device waits for data: no fault of the learning, but of its speed."""
    share = view.recent(lambda s: s.data_seconds / s.step_seconds if s.step_seconds > 0 else None)
    if share is None:
        return None
    return Suspicion("data_loading_slow", 0.9 * ramp(share, *WAITS), {"percent": round(100 * share, 1)})
