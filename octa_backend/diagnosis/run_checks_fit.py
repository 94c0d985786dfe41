"""Does the network fit the training scans only, and is it of a size for them?"""

from __future__ import annotations

import numpy as np

from octa_backend.diagnosis.curves import Shape, shape, trend, window
from octa_backend.diagnosis.run_view import RECENT, RunView, Suspicion, ramp

LEAST_VALIDATIONS = 8
"""A validation loss wavers over its first epochs; eight tell a rise from that."""

RISES = (0.08, 0.3)
"""Validation loss above its own best, as a share of it."""

GAP = (1.3, 2.0)
"""Validation loss over training loss, both now. Healthy runs have 0.8 to 1.2: augmentation makes training harder."""

MEMORISES = (2.0, 4.0)
"""The same gap where the validation loss only stands still: few scans, learnt by heart."""

DICE_RISES_STILL = 0.01
"""Validation Dice above its mean at the time of the best loss: then only the probabilities get too sure."""

FEW_SCANS = 50
"""Below it the data checks, too, propose the smaller network."""

LARGE_NETWORK = 20e6
"""Parameters: between `unet` (8.5 M) and `unet_transformer` (31.4 M)."""

SMALLER, SMALLER_VOLUMETRIC = "unet", "tiny_unet"
SOUND, SOUND_VOLUMETRIC = "unet", "unet3d"
"""Networks that are proposed, for pictures and for volumes: of fewer parameters, and with short ways for gradients."""


def overfitting(view: RunView) -> Suspicion | None:
    """The validation loss rises, or stands still far above, while the training loss falls."""
    losses = view.val_losses
    if len(losses) < LEAST_VALIDATIONS or losses.min() <= 0:
        return None
    inner = np.median(np.lib.stride_tricks.sliding_window_view(losses, 3), axis=1)
    smooth = np.concatenate(([losses[:2].mean()], inner, [losses[-2:].mean()]))
    best = int(smooth[:-1].argmin())
    rise = float(np.median(losses[-RECENT:]) / smooth[best] - 1)
    since = trend(losses[best:]) if len(losses) - best >= RECENT else None
    rising = since is not None and since.slope > 0
    trained = view.validated[best].train_loss
    falls = ramp(1 - view.loss_now / max(trained, 1e-9), -0.05, 0.1)
    gap = float(np.median(losses[-RECENT:])) / max(view.loss_now, 1e-9)
    dice_gain = float(np.median(view.dice[-RECENT:]) - np.median(view.dice[max(0, best - 1) : best + 2]))
    diverges = ramp(rise, *RISES) * ramp(gap, *GAP) if rising else 0.0
    stands_apart = ramp(gap, *MEMORISES) if shape(losses) is not Shape.IMPROVING else 0.0
    confidence = 0.95 * falls * max(diverges, stands_apart)
    if dice_gain > DICE_RISES_STILL:
        confidence *= 0.55
    evidence = {
        "best_epoch": view.validated[best].epoch,
        "rise_percent": round(100 * rise, 1),
        "train_loss": round(view.loss_now, 4),
        "val_loss": round(float(losses[-1]), 4),
        "gap": round(gap, 2),
    }
    return Suspicion("overfitting", confidence, evidence)


def smaller_network(view: RunView) -> str:
    """The network of fewer parameters that has a form for the run's scans."""
    return SMALLER_VOLUMETRIC if _has_volumes(view) else SMALLER


def sound_network(view: RunView) -> str:
    """The network with short ways for the gradient that has a form for the run's scans."""
    return SOUND_VOLUMETRIC if _has_volumes(view) else SOUND


def _has_volumes(view: RunView) -> bool:
    """Of volumes alone the plan knows the shape of a sample."""
    return isinstance(view.option("target_shape"), list | tuple)


def network_too_large(view: RunView) -> Suspicion | None:
    """Few scans, tens of millions of parameters, and a gap between training and validation."""
    facts, losses = view.facts, view.val_losses
    if facts.train_scans >= FEW_SCANS or facts.parameters < LARGE_NETWORK or len(losses) < LEAST_VALIDATIONS:
        return None
    gap = float(np.median(losses[-RECENT:])) / max(view.loss_now, 1e-9)
    still_better = shape(losses) is Shape.IMPROVING
    confidence = 0.85 * ramp(gap, *GAP) * ramp(facts.train_scans, FEW_SCANS + 10, FEW_SCANS / 2)
    evidence = {
        "scans": facts.train_scans,
        "parameters_million": round(facts.parameters / 1e6, 1),
        "gap": round(gap, 2),
        "model": smaller_network(view),
    }
    return Suspicion("network_too_large", confidence * (0.75 if still_better else 1.0), evidence)


TOO_FEW_SCANS = (15, 6)
"""Training scans at which their number begins to be the first thing to mend, and at which it is."""


def train_scans_few(view: RunView) -> Suspicion | None:
    """A handful of scans: no setting makes up for those that are missing."""
    scans = view.facts.train_scans
    steps = view.history.epochs_planned * view.facts.steps_per_epoch
    confidence = 0.85 * ramp(scans, *TOO_FEW_SCANS) if len(view.epochs) >= 3 else 0.0
    return Suspicion("train_scans_few", confidence, {"scans": scans, "steps": steps})


CONVERGED_SKILL = (0.35, 0.6)
"""Skill at which a plateau is a good end rather than a stuck loss. Small vessels in poor scans end near 0.6."""

CONVERGED_DROP = (0.2, 0.5)
"""Share of its first value that the training loss has lost at a good end."""


NEAR_ITS_BEST = (0.2, 0.5)
"""Training loss above its own best, as a share of it: noise alone gives 0.1 to 0.15 in a hundred epochs."""


def converged(view: RunView) -> float:
    """How sure a plateau is a good end, 0..1: the loss came far down, the validation is good, and both stand still."""
    if view.shape in (Shape.UNCLEAR, Shape.IMPROVING):
        return 0.0
    steady = 1 - ramp(view.loss_now / max(float(view.losses.min()), 1e-9) - 1, *NEAR_ITS_BEST)
    dice = 1 - view.dice[-window(len(view.dice)) :]
    still = 1.0 if len(dice) < 2 or trend(dice).relative_change > -0.1 else 0.6
    return steady * still * ramp(view.skill, *CONVERGED_SKILL) * max(ramp(view.drop, *CONVERGED_DROP), 0.5)
