"""Do gradients reach all weights, finite and of a sensible size?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from octa_backend.diagnosis.curves import Shape
from octa_backend.diagnosis.run_view import RunView, Suspicion, ramp
from octa_backend.diagnosis.training import EXPLODING_NORM, HEALTHY_NORM

INPUT, DEEPEST, OUTPUT = "encoder_conv1", "encoder_last", "decoder_output"

EXPLODES = (EXPLODING_NORM / 2, EXPLODING_NORM * 2)
"""Mean norm of a group over an epoch: usual ones are 0.01 to 10."""

VANISHES = (2.0, 4.0)
"""Powers of ten that the output's norm is above that of the first or the deepest group. Healthy runs stay below 1.2 for
the first group and 2.2 for the deepest."""

STILL_RATIO = 1e-9
"""Change of weights per step, relative to them, that is none: float32 rounds it away."""

DEAD = (0.5, 0.85)
"""Share of the channels of a layer that give 0 everywhere. Up to a third is usual in a network with ReLU."""

GROWN = (3.0, 6.0)
"""Growth of the weights' norm since the first epoch. Healthy networks grow by less than 2.5 in a run."""


def loss_not_finite(view: RunView) -> Suspicion | None:
    """The loss or a gradient became NaN or infinite, and the run ended."""
    if view.history.non_finite is None:
        return None
    (what, epoch), lr = view.history.non_finite, view.history.non_finite_lr
    return Suspicion("loss_not_finite", 1.0, {"what": what, "epoch": epoch, "lr": view.lr if lr is None else lr})


def gradients_exploding(view: RunView) -> Suspicion | None:
    """A group's gradient norm is far above any usual one."""
    norms = view.gradient_norms
    if not norms:
        return None
    group = max(norms, key=lambda name: norms[name] if math.isfinite(norms[name]) else math.inf)
    worst = norms[group]
    size = 1.0 if not math.isfinite(worst) else ramp(worst, *EXPLODES)
    confidence = 0.9 * size * (0.5 if view.shape is Shape.IMPROVING else 1.0)
    shown = worst if math.isfinite(worst) else "inf"
    return Suspicion("gradients_exploding", confidence, {"group": group, "norm": shown, "threshold": EXPLODING_NORM})


def gradients_vanishing(view: RunView) -> Suspicion | None:
    """Hardly any of the output's gradient reaches the first layers, or the deepest ones.

    Skips lead gradients past the deepest layers, so the first ones may have them where the deepest have not.
    """
    norms = view.gradient_norms
    if not norms or min(norms.get(INPUT, 0), norms.get(OUTPUT, 0)) <= 0:
        return None
    group = min((name for name in (INPUT, DEEPEST) if norms.get(name, 0) > 0), key=norms.__getitem__)
    least, last = norms[group], norms[OUTPUT]
    confidence = 0.9 * ramp(math.log10(last / least), *VANISHES) * (1.0 if least <= HEALTHY_NORM else 0.5)
    grown = growth(view)
    if grown is not None:
        confidence *= 1 - ramp(grown, *GROWN)  # large weights have small gradients: the rate is the cause
    evidence = {"group": group, "norm": least, "output_norm": last, "ratio": round(last / least, 1)}
    return Suspicion("gradients_vanishing", confidence, evidence)


def layers_frozen(view: RunView) -> Suspicion | None:
    """Groups of weights, or a tenth of all layers, do not move although the others do."""
    signals = view.signals
    if not signals:
        return None
    groups = list(signals[-1].gradient_norms)
    still = [g for g in groups if all(_stands_still(s.gradient_norms, s.update_ratios, g) for s in signals)]
    layers = signals[-1].layer_ratios
    still_layers = sorted(layer for layer, ratio in layers.items() if ratio < STILL_RATIO)
    confidence = 0.0
    if still and len(still) < len(groups):
        confidence = 0.95
    elif 0.1 * len(layers) <= len(still_layers) < len(layers) and view.peak_lr > 0 and not _lr_gone(view):
        confidence = 0.7
    names = still or still_layers
    return Suspicion("layers_frozen", confidence, {"count": len(names), "names": ", ".join(names[:5])})


def channels_dead(view: RunView) -> Suspicion | None:
    """Most channels of the activation layers give 0 for every scan."""
    dead = view.signals[-1].dead_fraction if view.signals else {}
    if not dead:
        return None
    worst = max(dead, key=lambda layer: dead[layer])
    mean = fmean(dead.values())
    whole_layer = 0.8 if dead[worst] >= 1 and view.skill < 0.5 else 0.0
    confidence = max(0.9 * ramp(mean, *DEAD), whole_layer)
    evidence = {"percent": round(100 * mean, 1), "layer": worst, "layer_percent": round(100 * dead[worst], 1)}
    return Suspicion("channels_dead", confidence, evidence)


def growth(view: RunView) -> float | None:
    """By how much the norm of the weights grew since the end of the first epoch: the median over the groups."""
    if len(view.signals) < 2:
        return None
    first, last = view.signals[0].weight_norms, view.signals[-1].weight_norms
    ratios = sorted(last[name] / first[name] for name in last if first.get(name, 0) > 0)
    return ratios[len(ratios) // 2] if ratios else None


def _stands_still(norms: Mapping[str, float], ratios: Mapping[str, float], group: str) -> bool:
    """By its steps where they are known; else by a gradient that is 0."""
    return ratios[group] < STILL_RATIO if group in ratios else norms[group] == 0


def _lr_gone(view: RunView) -> bool:
    return view.epochs[-1].lr < 1e-3 * view.peak_lr
