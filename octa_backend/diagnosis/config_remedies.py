"""Remedies of a running training: what to change in its `TrainConfig` (or its dataset), and where to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from octa_backend.diagnosis.findings import Finding, Remedy
from octa_backend.diagnosis.remedies import DATASET_REMEDIES
from octa_backend.diagnosis.run_checks_balance import stuck_component
from octa_backend.diagnosis.run_checks_data import EXPLAINS, explaining
from octa_backend.diagnosis.run_checks_fit import FEW_SCANS, LARGE_NETWORK, smaller_network, sound_network
from octa_backend.diagnosis.run_view import FALLING_SCHEDULES, RunView

LR_BOUNDS = (1e-7, 1.0)
"""What `TrainConfig.lr` allows, and what a step can still be told from in float32."""

MILD = 5.0
"""Up to so many times the right rate leaves weights from which a run can go on. With more they are no better than fresh
ones, and have grown, so that the right rate hardly moves them."""

LOWER, RAISE = 10.0, 5.0
"""Factors where no range test was made: a thrown run needs a clear cut, a slow one must not be thrown."""

AIMED_STEP = 3e-3
"""Change of the weights per step, relative to them, that a rate is raised to: the middle of runs that learn."""

MOST_RAISED = 1000.0

CLIPPING = 1.0
"""Largest gradient norm: usual ones are 0.01 to 10, so it touches hardly any sound step."""

PRESETS: Sequence[str] = ("none", "light", "standard", "strong")
"""Of augmentation, each stronger than the one before: its ranges are as wide at least, and nothing is left out. So what
a user overrides in one, the stronger ones take, too."""

USUAL_DECAY: Mapping[str, float] = {"adamw": 0.01, "sgd": 5e-4}
"""Weight decay by optimizer. That of `sgd` is multiplied by a rate ten to a hundred times as high."""

WITH_DICE: Mapping[str, str] = {"bce": "dice_bce", "ce": "dice_ce"}
"""Cross-entropies alone, and the same with a Dice loss beside."""

POS_WEIGHT_BOUNDS = (1.0, 20.0)
"""Weight of foreground: beyond 20 single pixels decide, and most of the picture is called foreground."""

SMALL_NETWORK = 1e6
"""Parameters below which a network may lack capacity: `tiny_unet` has 0.07 million."""

AUTOMATIC_CONFIDENCE = 0.6
"""A remedy is applied unasked only where its cause is at least this sure."""

ENOUGH_STEPS, MOST_EPOCHS = 2500, 1000
"""Optimizer steps that a run of a handful of scans should have, and epochs that it takes for them at most. Of five
drawn scans in batches of two the Dice was 0.897 after 200 epochs, 0.909 after 417 and 0.914 after 834."""

BY_HAND = ("more_epochs", "stop_early")
"""Remedies that are never applied unasked: how long a run may take is its user's business. So are those of the dataset,
which make another dataset. `train_longer` gives a handful of scans the steps that a run of 100 scans has, no more."""


def remedy_for(code: str, view: RunView) -> Remedy | None:
    """What would help against a cause; None where only a person can help, nothing is needed, or the run has it already.

    Args:
        code: of the finding.
        view: the run; its config decides the values.
    """
    make = _MAKERS.get(code)
    made = make(view) if make is not None else None
    return None if made is not None and _changes_nothing(made, view) else made


def _changes_nothing(remedy: Remedy, view: RunView) -> bool:
    """Whether the run has all values that the remedy sets; one of the dataset sets none."""
    return bool(remedy.changes) and all(view.option(name) == value for name, value in remedy.changes.items())


def is_automatic(finding: Finding) -> bool:
    """Whether the remedy of the doctor's finding is sure enough to be applied unasked."""
    return (
        finding.remedy is not None
        and finding.remedy.code not in (*BY_HAND, *DATASET_REMEDIES)
        and float(finding.evidence.get("confidence", 0.0)) >= AUTOMATIC_CONFIDENCE
    )


# --- learning rate --------------------------------------------------------------------------------------------------


def lowered_lr(view: RunView) -> float:
    """The range test's rate where it is clearly lower, else a tenth."""
    found = view.start.lr_found
    return _rounded(found if found is not None and found <= view.lr / 2 else view.lr / LOWER)


def raised_lr(view: RunView) -> float:
    """The range test's rate where it is clearly higher; else what the size of the steps asks for; else five times."""
    found, ratio = view.start.lr_found, view.update_ratio
    if found is not None and found >= 2 * view.lr:
        return _rounded(found)
    factor = RAISE if not ratio else min(MOST_RAISED, max(RAISE, AIMED_STEP / ratio))
    most = view.start.lr_diverges / 4 if view.start.lr_diverges else LR_BOUNDS[1]
    return _rounded(max(min(view.lr * factor, most), view.lr))


def _rounded(lr: float) -> float:
    """Two digits, within the bounds."""
    return float(f"{min(max(lr, LR_BOUNDS[0]), LR_BOUNDS[1]):.1e}")


def _lower_lr(view: RunView) -> Remedy:
    """Goes on where the rate was a little too high and the weights hold something; thrown ones are not worth it."""
    lr = lowered_lr(view)
    holds_something = view.drop > 0.3 and view.skill > 0.3
    return Remedy("lower_lr", {"lr": lr}, from_checkpoint=holds_something and view.lr <= MILD * lr)


def _raise_lr(view: RunView) -> Remedy:
    return Remedy("raise_lr", {"lr": raised_lr(view)}, from_checkpoint=True)


def _keep_lr_up(_: RunView) -> Remedy:
    return Remedy("keep_lr_up", {"scheduler": "cosine"}, from_checkpoint=True)


# --- steps ----------------------------------------------------------------------------------------------------------


def _after_non_finite(view: RunView) -> Remedy:
    """Half precision overflows first; otherwise the steps were too large. The last finite epoch is kept."""
    has_epochs = bool(view.epochs)
    if view.option("precision") == "fp16":
        return Remedy("full_precision", {"precision": "fp32"}, from_checkpoint=has_epochs)
    return Remedy("lower_lr", {"lr": lowered_lr(view)}, from_checkpoint=has_epochs and view.drop > 0)


def _clip(_: RunView) -> Remedy:
    return Remedy("clip_gradients", {"gradient_clipping": CLIPPING}, from_checkpoint=True)


def _accumulate(view: RunView) -> Remedy:
    """Four times as many scans per step, up to the epoch's size; fewer steps, so the rest stays."""
    steps = int(view.option("accumulation_steps", 1))
    most = max(steps + 1, steps * view.facts.steps_per_epoch // 4)
    return Remedy("accumulate", {"accumulation_steps": min(4 * steps, most, 1024)}, from_checkpoint=True)


def _warm_up(view: RunView) -> Remedy:
    """Channels die in the first large steps: a lower rate and a rise to it, from the start."""
    epochs = int(view.option("epochs", 50))
    changes = {"lr": _rounded(view.lr / 3), "warmup_epochs": min(5, max(1, epochs // 10), epochs - 1)}
    return Remedy("warm_up", changes, from_checkpoint=False)


# --- loss -----------------------------------------------------------------------------------------------------------


def _weigh_foreground(view: RunView) -> Remedy:
    """Take a loss that has Dice, which scarce foreground decides; where it has, weigh foreground up by its scarcity.

    Of `bce` at 0.4 % foreground a weight of 17 won back less than the Dice loss, and on real scans lost.
    """
    if view.option("loss") in WITH_DICE:
        return Remedy("another_loss", {"loss": WITH_DICE[view.option("loss")]}, from_checkpoint=False)
    share = view.facts.foreground_fraction
    weight = round(min(max(math.sqrt((1 - share) / max(share, 1e-6)), POS_WEIGHT_BOUNDS[0]), POS_WEIGHT_BOUNDS[1]), 1)
    given = view.option("pos_weight")
    if view.option("loss") == "dice_bce" and not (isinstance(given, int | float) and given >= weight):
        return Remedy("pos_weight", {"pos_weight": weight}, from_checkpoint=False)
    return Remedy("another_loss", {"loss": "focal_tversky"}, from_checkpoint=False)


def _unweigh_foreground(view: RunView) -> Remedy:
    """Take an own weight of foreground away; else a loss that makes false foreground cost as much as missed one."""
    if view.option("loss") in ("dice_bce", "bce") and view.option("pos_weight") not in (None, 1, 1.0):
        return Remedy("unweigh_foreground", {"pos_weight": 1.0}, from_checkpoint=False)
    changes = {"loss": "tversky", "tversky_alpha": 0.5, "tversky_beta": 0.5}
    return Remedy("another_loss", changes, from_checkpoint=False)


def _balance_components(view: RunView) -> Remedy:
    """Give the component that stays high the larger weight; where it has that, both the same."""
    if view.option("loss") not in ("dice_bce", "dice_ce"):
        sigmoids = view.facts.classes == 2 or view.option("target") == "regions"
        return Remedy("another_loss", {"loss": "dice_bce" if sigmoids else "dice_ce"}, from_checkpoint=False)
    names = ("dice_weight", "bce_weight")
    stuck, other = names if stuck_component(view) == "dice" else reversed(names)
    already = float(view.option(stuck, 0.5)) > float(view.option(other, 0.5))
    changes = dict.fromkeys(names, 0.5) if already else {stuck: 0.7, other: 0.3}
    return Remedy("loss", changes, from_checkpoint=True)


# --- data and network -----------------------------------------------------------------------------------------------


def _repair(view: RunView) -> Remedy | None:
    """The remedy of the dataset for the gravest finding that has one."""
    sure = {code: how for code, how in explaining(view).items() if how > 0}
    codes = sorted(sure, key=lambda code: -sure[code])
    named = next((name for code in codes if (name := EXPLAINS[code])), None)
    return Remedy(named, from_checkpoint=False) if named else None


def _against_overfitting(view: RunView) -> Remedy | None:
    """More augmentation; where it is strong already, weight decay; where there is that, too, an earlier end, if any."""
    preset = str(view.option("augmentation", "standard"))
    if preset in PRESETS[:-1]:
        stronger = "standard" if preset in PRESETS[:2] else "strong"
        return Remedy("augment_more", {"augmentation": stronger}, from_checkpoint=False)
    if float(view.option("weight_decay", 0.0)) == 0:
        return _decay_weights(view)
    given, patience = int(view.option("patience", 0)), max(5, view.history.epochs_planned // 5)
    return None if 0 < given <= patience else Remedy("stop_early", {"patience": patience}, from_checkpoint=False)


def _decay_weights(view: RunView) -> Remedy:
    """With the run's own optimizer and so its rate; but `adam`, whose decay goes into the gradient, becomes `adamw`."""
    if view.option("optimizer") in USUAL_DECAY:
        return Remedy("decay_weights", {"weight_decay": USUAL_DECAY[view.option("optimizer")]}, from_checkpoint=False)
    changes = {"optimizer": "adamw", "weight_decay": USUAL_DECAY["adamw"]}
    return Remedy("decay_weights", changes, from_checkpoint=False)


def _smaller_network(view: RunView) -> Remedy | None:
    large = view.facts.parameters >= LARGE_NETWORK
    return Remedy("model", {"model": smaller_network(view)}, from_checkpoint=False) if large else None


def _larger_network(view: RunView) -> Remedy | None:
    """A network that may be too small for what is to be learnt gives way to the next larger one."""
    is_small = view.facts.parameters < SMALL_NETWORK and view.facts.train_scans >= FEW_SCANS
    return _sound_network(view) if is_small else None


def _more_epochs(view: RunView) -> Remedy | None:
    """Twice as many epochs where a run ends that still learns.

    A schedule that has fallen to 0 by design is left alone: with more epochs it would jump up again.
    """
    planned = view.history.epochs_planned
    if view.epochs[-1].epoch < planned or view.option("scheduler", "onecycle") in FALLING_SCHEDULES:
        return None
    return Remedy("more_epochs", {"epochs": min(2 * planned, 10_000)}, from_checkpoint=True)


def _train_longer(view: RunView) -> Remedy | None:
    """As many epochs as make enough steps, on scans that are changed more; where both are so, only more scans help."""
    steps = view.facts.steps_per_epoch
    epochs = min(MOST_EPOCHS, -(-ENOUGH_STEPS // max(1, steps)))
    varied = {"augmentation": PRESETS[-1]}
    if epochs > view.history.epochs_planned:
        return Remedy("train_longer", {"epochs": epochs, **varied}, from_checkpoint=False)
    is_varied = view.option("augmentation", "standard") == PRESETS[-1]
    return None if is_varied else Remedy("augment_more", varied, from_checkpoint=False)


def _sound_network(view: RunView) -> Remedy | None:
    """Another network with short ways for the gradient: residual blocks and skips."""
    network = sound_network(view)
    return None if view.option("model") == network else Remedy("model", {"model": network}, from_checkpoint=False)


_MAKERS: Mapping[str, Callable[[RunView], Remedy | None]] = {
    "data_at_fault": _repair,
    "loss_not_finite": _after_non_finite,
    "gradients_exploding": _clip,
    "channels_dead": _warm_up,
    "gradients_vanishing": _sound_network,
    "lr_decayed_early": _keep_lr_up,
    "lr_too_low": _raise_lr,
    "lr_too_high": _lower_lr,
    "collapse_to_background": _weigh_foreground,
    "collapse_to_foreground": _unweigh_foreground,
    "loss_weights_wrong": _balance_components,
    "batch_too_noisy": _accumulate,
    "overfitting": _against_overfitting,
    "network_too_large": _smaller_network,
    "train_scans_few": _train_longer,
    "still_learning": _more_epochs,
    "stuck_unexplained": _larger_network,
}
"""Missing are causes that only a person can mend: masks of other scans, labels, frozen layers, slow storage."""
