"""What several checks of a run look at, worked out once from its history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from statistics import fmean, median
from typing import Any

import numpy as np

from octa_backend.diagnosis.curves import Shape, Values, shape, trend, window
from octa_backend.diagnosis.run_history import EpochRecord, EpochSignals, RunHistory

RECENT = 3
"""Epochs that "now" is the mean of: one alone is noise."""

MEMORISED = 0.8
"""Dice at which a network has learnt one batch by heart."""

USUAL_LR: Mapping[str, float] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 1e-2}
"""What each optimizer is begun with where nothing is known: the product's default, and ten times that for `sgd`."""

BALANCED = (0.2, 5.0)
"""Weight of foreground pixels that cannot by itself decide between all and nothing."""

SCARCE = 0.02
"""Share of foreground below which a cross-entropy without a Dice loss beside it may settle at nothing by itself."""

LEAST_STEPS = 10
"""Optimizer steps that make an epoch: of fewer, several are looked at as one."""

AT_WORK = 0.2
"""Share of the peak rate from which steps are large enough to leave a standstill."""

FALLING_SCHEDULES = ("onecycle", "cosine", "poly")
"""Their learning rate falls to nearly 0 by design, and most of the last gain comes then."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One possible cause, how sure it is, and the numbers behind it.

    Attributes:
        code: of the finding it would become.
        confidence: 0..1. The factor that a check begins with is the surest it can be: 0.95 where the numbers can hardly
            mean anything else, less where other causes look alike.
        evidence: JSON-serialisable; the placeholders of the finding's sentence are its keys.
    """

    code: str
    confidence: float
    evidence: Mapping[str, Any]


def ramp(value: float, none: float, full: float) -> float:
    """0 where `value` is at `none` or beyond, 1 at `full` or beyond, a line between; `none` may be the larger one."""
    return min(1.0, max(0.0, (value - none) / (full - none)))


def merged(epochs: Sequence[EpochRecord], at_once: int) -> tuple[EpochRecord, ...]:
    """So many epochs as one, counted from the last: with their mean losses, and the rest of the last of them."""
    return tuple(_as_one(part) if len(part) > 1 else part[0] for part in _parts(epochs, at_once))


def _parts(epochs: Sequence[EpochRecord], at_once: int) -> list[Sequence[EpochRecord]]:
    first = len(epochs) % at_once
    rest = [epochs[start : start + at_once] for start in range(first, len(epochs), at_once)]
    return [epochs[:first], *rest] if first else rest


def _as_one(epochs: Sequence[EpochRecord]) -> EpochRecord:
    count, last = len(epochs), epochs[-1]
    components = {name: sum(one.loss_components[name] for one in epochs) / count for name in last.loss_components}
    return replace(last, train_loss=sum(one.train_loss for one in epochs) / count, loss_components=components)


def _of_one_loss(epochs: Sequence[EpochRecord]) -> tuple[EpochRecord, ...]:
    """The last epochs whose losses have the same components."""
    kept = takewhile(lambda one: one.loss_components.keys() == epochs[-1].loss_components.keys(), reversed(epochs))
    return tuple(kept)[::-1]


class RunView:
    """A run's history as the checks look at it. Left out are epochs without a finite loss, and those of another loss,
    which the run had before it was resumed with its present one.

    Attributes:
        every: the epochs that are left.
        at_once: how many of them are looked at as one, so that it has `LEAST_STEPS` steps: what checks count in epochs,
            and call noise, was measured on epochs of 12 and more.
        epochs: those, the first one of fewer where they do not come out even, see `merged`.
        losses: mean training loss of each of `epochs`.
    """

    def __init__(self, history: RunHistory) -> None:
        self.history = history
        self.facts = history.facts
        self.start = history.start
        self.every = _of_one_loss([e for e in history.epochs if math.isfinite(e.train_loss)])
        self.at_once = -(-LEAST_STEPS // max(1, self.facts.steps_per_epoch))
        self.epochs = merged(self.every, self.at_once)
        self.losses: Values = np.array([epoch.train_loss for epoch in self.epochs])

    def option(self, name: str, default: Any = None) -> Any:
        """A field of the run's config; the default where an older run has none."""
        return self.facts.config.get(name, default)

    # --- learning rate ---

    @cached_property
    def lr(self) -> float:
        """The rate the run was configured with: the peak of its schedule."""
        return float(self.option("lr", USUAL_LR["adam"]))

    @cached_property
    def peak_lr(self) -> float:
        """The highest rate so far."""
        return max((epoch.lr for epoch in self.epochs), default=0.0)

    @property
    def is_warming_up(self) -> bool:
        """Whether the learning rate still rises: a loss that rises with it is no fault yet."""
        return len(self.epochs) >= 2 and self.epochs[-1].lr > self.epochs[-2].lr

    @property
    def rate_is_up(self) -> bool:
        """Whether the rate is not far below its peak: steps that became small explain a standstill by themselves."""
        return bool(self.epochs) and self.epochs[-1].lr > AT_WORK * self.peak_lr

    # --- losses and scores ---

    @property
    def progress(self) -> float:
        """Share of its epochs that the run has had, 0..1; of one that began anew on its way, since then."""
        if not self.every:
            return 0.0
        before = self.every[0].epoch - 1
        return (self.every[-1].epoch - before) / max(1, self.history.epochs_planned - before)

    @cached_property
    def asks_for_one_side(self) -> bool:
        """Whether the loss, as it is set, may by itself lead to all foreground, or to none."""
        weight = self.option("pos_weight")
        balanced = not isinstance(weight, int | float) or BALANCED[0] <= weight <= BALANCED[1]
        alone = self.facts.foreground_fraction < SCARCE and "dice" not in self.epochs[-1].loss_components
        return alone or not balanced

    @cached_property
    def shape(self) -> Shape:
        """Of the training loss."""
        return shape(self.losses)

    @cached_property
    def loss_now(self) -> float:
        """Mean training loss of the last epochs."""
        return float(self.losses[-RECENT:].mean())

    @cached_property
    def drop(self) -> float:
        """How far the training loss fell from its first epoch, as a share of it."""
        return float((self.losses[0] - self.loss_now) / max(abs(self.losses[0]), 1e-9))

    @cached_property
    def relative_noise(self) -> float:
        """Noise of the epochs' training losses around their trend, as a share of their level."""
        return trend(self.losses[-window(len(self.losses)) :]).relative_noise if len(self.losses) > 1 else 0.0

    @cached_property
    def validated(self) -> tuple[EpochRecord, ...]:
        """Those of `epochs` in which there was a validation (`val_freq`); the others repeat the numbers of these."""
        frequency = int(self.option("val_freq", 1))
        always = (self.every[0].epoch, self.history.epochs_planned) if self.every else ()
        merged_of = zip(self.epochs, _parts(self.every, self.at_once), strict=True)
        return tuple(
            epoch for epoch, part in merged_of if any(one.epoch % frequency == 0 or one.epoch in always for one in part)
        )

    @cached_property
    def val_losses(self) -> Values:
        """Of the validated epochs, as far as they are finite."""
        return np.array([e.val_loss for e in self.validated if math.isfinite(e.val_loss)])

    @cached_property
    def dice(self) -> Values:
        """Validation Dice of the validated epochs; where several are merged, that of the last of them."""
        return np.array([epoch.val_dice for epoch in self.validated])

    @cached_property
    def best_dice(self) -> float:
        """The best validation Dice of all epochs, none of them merged; 0 before the first."""
        return max((epoch.val_dice for epoch in self.every), default=0.0)

    @cached_property
    def dice_rises(self) -> bool:
        """Whether the validation Dice still gets better: surer than the loss where both could be moving."""
        return shape(1 - self.dice) is Shape.IMPROVING

    @cached_property
    def trivial_dice(self) -> float:
        """The Dice of calling every pixel foreground, 2f / (1 + f): what is reached without looking at the image."""
        share = self.facts.foreground_fraction / max(1, self.facts.classes - 1)
        return 2 * share / (1 + share)

    @cached_property
    def skill(self) -> float:
        """How far the best validation Dice is from the trivial one (0) to perfect (1); below 0 it is worse."""
        return self._skill_of(self.best_dice)

    @cached_property
    def skill_now(self) -> float:
        """The same of the last validations' median."""
        return self._skill_of(float(np.median(self.dice[-RECENT:])))

    def _skill_of(self, dice: float) -> float:
        return (dice - self.trivial_dice) / max(1 - self.trivial_dice, 1e-6)

    # --- signals ---

    @cached_property
    def signals(self) -> tuple[EpochSignals, ...]:
        """Of all epochs that kept some, none of them merged."""
        return tuple(epoch.signals for epoch in self.every if epoch.signals is not None)

    def recent(self, number: Callable[[EpochSignals], float | None]) -> float | None:
        """Mean of a number over the last epochs, where all of them have it."""
        found = [number(signals) for signals in self.signals[-RECENT:]]
        known = [value for value in found if value is not None]
        return fmean(known) if known and len(known) == len(found) else None

    @cached_property
    def gradient_norms(self) -> Mapping[str, float]:
        """Median over the last epochs of each group's norm; empty where none were kept."""
        recent = self.signals[-RECENT:]
        names = recent[-1].gradient_norms if recent else {}
        return {name: median(s.gradient_norms[name] for s in recent if name in s.gradient_norms) for name in names}

    @cached_property
    def update_ratio(self) -> float | None:
        """How far a step moved the weights at the schedule's peak: the median over the groups that move.

        While the rate is still below its peak it is scaled up to it: an optimizer's step is proportional to the rate.
        """
        found = [
            median(moving) * (self.lr / max(epoch.lr, self.peak_lr))
            for epoch in self.every
            if epoch.signals is not None and epoch.lr > 0.5 * self.peak_lr
            if (moving := [ratio for ratio in epoch.signals.update_ratios.values() if ratio > 0])
        ]
        return max(found) if found else None


def memorises(view: RunView) -> bool:
    """Whether a copy of the network learnt one batch by heart, with this loss: then neither is at fault."""
    return view.start.overfit_dice is not None and view.start.overfit_dice >= MEMORISED
