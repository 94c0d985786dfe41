"""Does the loss ask for the right thing: collapse to one answer, and components that pull apart or do not count."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from octa_backend.diagnosis.curves import Shape
from octa_backend.diagnosis.run_checks_data import EPOCHS_WITHOUT_SKILL
from octa_backend.diagnosis.run_view import RECENT, RunView, Suspicion, memorises, ramp

LEAST_EPOCHS = 4
"""Healthy networks call everything foreground, or nothing, for an epoch or two, their running average for longer."""

HARDLY_ANY = (0.75, 0.45)
"""Foreground that is predicted over what there is. Healthy runs have 0.8 to 1.2 once they have learnt."""

HARDLY_RECALLED = (0.65, 0.45)
"""Validation recall, where precision is clearly above it: what is called is right, and most is not called."""

ONE_SIDED = (0.15, 0.35)
"""Precision minus recall. Healthy runs stay within 0.15 of each other."""

NOTHING_FOUND = 0.02
"""Recall at which precision says nothing any more."""

TOO_MUCH = (1.8, 3.0)
"""Odds of predicted foreground over the true ones. Healthy runs have at most 1.3 once they have learnt."""

ALL_RECALLED = (0.9, 0.97)
"""Validation recall of a network that calls nearly everything foreground; its precision is then near the share of
foreground."""

SPECIFIC = (0.2, 0.4)
"""Precision, from the share of foreground (0) to 1: up to the first, hardly better than chance."""

STILL_MOVING = 0.7
"""Factor on the confidence of a collapse while the Dice still rises: it may be leaving it by itself."""

EPOCHS_COLLAPSED = (3, 8)
"""Epochs that begin to count, and that count in full, where the loss is set so that it may lead there."""

EPOCHS_UNASKED = EPOCHS_WITHOUT_SKILL
"""Likewise where nothing in the settings asks for it: masks that cannot be predicted are as likely the cause then, so
that a collapse is not told sooner than they are."""

BEGINNING, AT_THE_BEGINNING = 0.3, 0.5
"""Share of the planned epochs that is the beginning, and the factor there while the loss falls, or may: long schedules
begin slowly, and answer one-sidedly until they have learnt something."""

RECOVERED = (0.75, 0.6)
"""Skill of the last epochs at which there is no collapse any more."""

OPPOSED = (-0.2, -0.6)
"""Cosine between the gradients of two components; about 0.3 to 0.9 in healthy runs of Dice and cross-entropy."""

DOES_NOT_COUNT = (0.05, 0.01)
"""A component's share of the gradient at the output: below 1 % its weight is as good as 0."""

STAYS_HIGH = (0.45, 0.65)
"""Dice loss at which thin structures are missed; healthy runs pass 0.4 within a third of their epochs."""

SETTLED = (0.4, 0.3)
"""Cross-entropy that has settled: 0.69 is a coin toss, 0.24 what the share of 7 % foreground gives to a constant."""


def collapse_to_background(view: RunView) -> Suspicion | None:
    """The network calls far less than there is foreground, nothing at worst."""
    if len(view.epochs) < LEAST_EPOCHS:
        return None
    predicted, true = _foreground(view)
    last = view.validated[-RECENT:]
    recall, precision = fmean(e.val_recall for e in last), fmean(e.val_precision for e in last)
    one_sided = 1.0 if recall < NOTHING_FOUND else ramp(precision - recall, *ONE_SIDED)
    by_validation = ramp(recall, *HARDLY_RECALLED) * one_sided
    by_training = by_validation if predicted is None else ramp(predicted / max(true, 1e-6), *HARDLY_ANY)
    confidence = 0.95 * (0.7 * by_training + 0.3 * by_validation) * _collapsed(view)
    evidence = {"predicted_percent": _percent(predicted), "true_percent": _percent(true), "recall": round(recall, 3)}
    return Suspicion("collapse_to_background", confidence, evidence)


def collapse_to_foreground(view: RunView) -> Suspicion | None:
    """The network calls far more than there is foreground, nearly all of it at worst."""
    if len(view.epochs) < LEAST_EPOCHS:
        return None
    predicted, true = _foreground(view)
    last = view.validated[-RECENT:]
    recall, precision = fmean(e.val_recall for e in last), fmean(e.val_precision for e in last)
    unspecific = 1 - ramp((precision - true) / max(1 - true, 1e-6), *SPECIFIC)
    by_validation = ramp(recall, *ALL_RECALLED) * unspecific
    by_training = by_validation if predicted is None else _excess(predicted, true)
    confidence = 0.95 * (0.7 * by_training + 0.3 * by_validation) * _collapsed(view)
    evidence = {
        "predicted_percent": _percent(predicted),
        "true_percent": _percent(true),
        "precision": round(precision, 3),
    }
    return Suspicion("collapse_to_foreground", confidence, evidence)


def _excess(predicted: float, true: float) -> float:
    """How much more foreground is predicted than there is, on odds, so that a large share has room, too."""
    odds = predicted / max(1 - predicted, 1e-6) / max(true / max(1 - true, 1e-6), 1e-6)
    return ramp(odds, *TOO_MUCH)


def _foreground(view: RunView) -> tuple[float | None, float]:
    """Predicted (None where it was not kept) and true share of foreground in the last epochs."""
    predicted = view.recent(lambda signals: signals.predicted_foreground)
    true = view.recent(lambda signals: signals.true_foreground)
    return predicted, view.facts.foreground_fraction if true is None else true


def _collapsed(view: RunView) -> float:
    moving = STILL_MOVING if view.dice_rises else 1.0
    if view.shape in (Shape.IMPROVING, Shape.UNCLEAR) and view.progress < BEGINNING:
        moving = AT_THE_BEGINNING
    awaited = EPOCHS_COLLAPSED if view.asks_for_one_side else EPOCHS_UNASKED
    return ramp(view.skill_now, *RECOVERED) * moving * ramp(len(view.epochs), *awaited)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def loss_weights_wrong(view: RunView) -> Suspicion | None:
    """Two components are in each other's way, or one stays high because it hardly counts."""
    now = _components(view)
    if len(now) != 2 or view.shape in (Shape.IMPROVING, Shape.UNCLEAR):
        return None
    opposed = ramp(view.recent(lambda signals: signals.component_cosine) or 0.0, *OPPOSED)
    unheard = max(_unheard(view, now).values(), default=0.0)
    apart = _one_settled(now)
    apart *= 0.4 if memorises(view) else 0.62
    confidence = max(0.85 * opposed, 0.85 * unheard, apart) * ramp(view.skill, 0.75, 0.55)
    stuck = stuck_component(view)
    evidence = {
        "component": stuck,
        "value": round(now[stuck], 3),
        "share_percent": _percent(_shares(view).get(stuck)),
        "components": {name: round(value, 4) for name, value in now.items()},
        "cosine": view.recent(lambda signals: signals.component_cosine),
    }
    return Suspicion("loss_weights_wrong", confidence, evidence)


def stuck_component(view: RunView) -> str:
    """The component that stays high: the one that hardly counts, where one does; else the higher one."""
    now = _components(view)
    unheard = _unheard(view, now)
    return _higher(unheard if any(unheard.values()) else now)


def _unheard(view: RunView, now: Mapping[str, float]) -> Mapping[str, float]:
    """How sure it is of each component that it stays high because it hardly counts."""
    shares = _shares(view)
    return {name: ramp(shares.get(name, 1.0), *DOES_NOT_COUNT) * _is_high(name, now) for name in now}


def _components(view: RunView) -> Mapping[str, float]:
    last = view.epochs[-RECENT:]
    return {name: fmean(e.loss_components[name] for e in last) for name in last[-1].loss_components}


def _shares(view: RunView) -> Mapping[str, float]:
    """Each component's share of the gradient at the output; of the weighted loss where gradients were not kept."""
    last = view.signals[-1].component_gradients if view.signals else {}
    if len(last) == 2 and sum(last.values()) > 0:
        return {name: value / sum(last.values()) for name, value in last.items()}
    weights = _weights(view)
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total > 0 else {}


def _weights(view: RunView) -> Mapping[str, float]:
    """The configured weight of each component that has one."""
    options = {"bce": "bce_weight", "ce": "bce_weight", "dice": "dice_weight", "focal": "focal_weight"}
    names = _components(view)
    if any(name not in options for name in names):
        return {}
    return {name: float(view.option(options[name], 0.5)) for name in names}


def _is_high(name: str, now: Mapping[str, float]) -> float:
    """How high a component still is; 0 for those whose scale says nothing, such as `boundary`, which is in pixels."""
    if name in ("bce", "ce"):
        return ramp(now[name], *SETTLED[::-1])
    return ramp(now[name], *STAYS_HIGH) if name in ("dice", "cldice") else 0.0


def _one_settled(now: Mapping[str, float]) -> float:
    """The Dice loss stays high while the cross-entropy is low: the picture of the matrix's first row."""
    dice, entropy = now.get("dice"), now.get("bce", now.get("ce"))
    if dice is None or entropy is None:
        return 0.0
    return ramp(dice, *STAYS_HIGH) * ramp(entropy, *SETTLED)


def _higher(now: Mapping[str, float]) -> str:
    return max(now, key=lambda name: now[name])
