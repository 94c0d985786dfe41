"""Histories of runs that were never trained: curves as real runs draw them, healthy or with one planted fault.

A healthy run: the loss goes from its first value to its limit as the schedule lets it, the validation follows with a
lag (it is of averaged weights), all with noise. Modelled on runs of `unet_transformer` on OCTA vessels (0.41, 0.31,
0.27 … 0.16; Dice 0.80 … 0.90) and of `tiny_unet` on synthetic ones (0.82, 0.72, 0.58, 0.42, 0.27, 0.18 … 0.11).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octa_backend.diagnosis.run_history import EpochRecord, EpochSignals, RunFacts, RunHistory, StartChecks
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.schedules import learning_rate

HEALTHY_NORMS = dict(zip(GRADIENT_GROUPS, (0.08, 0.02, 0.04, 0.15), strict=True))
LENGTHS = (12, 20, 50, 100)
SCHEDULES = ("onecycle", "constant", "cosine", "poly", "step", "plateau")
LOSSES = ("dice_bce", "dice", "bce", "focal_tversky")
RESOLVED = {
    "epochs": 50,
    "model": "unet_transformer",
    "loss": "dice_bce",
    "pos_weight": None,
    "optimizer": "adam",
    "scheduler": "onecycle",
}


def facts(**changes):
    """Of a usual run; other arguments than the attributes of `RunFacts` are options of `TrainConfig`."""
    own = {"train_scans": 85, "val_scans": 15, "patients": None, "parameters": 31_400_000, "classes": 2}
    own |= {"foreground_fraction": 0.13, "steps_per_epoch": 43, "data_findings": {}, "data_shares": {}}
    own |= {name: changes.pop(name) for name in list(changes) if name in own}
    return RunFacts(config=TrainConfig(**(RESOLVED | changes)).model_dump(mode="json"), **own)


def signals(rng, lr, progress=1.0, **changes):
    """Of a healthy epoch at this learning rate (`adam`), `progress` from 0 to 1; numbers or maps given win."""
    ratio = 4.0 * lr * rng.uniform(0.7, 1.4)
    own = {
        "gradient_norms": {name: norm * rng.uniform(0.6, 1.6) for name, norm in HEALTHY_NORMS.items()},
        "weight_norms": dict.fromkeys(GRADIENT_GROUPS, 10 * (1 + 0.3 * progress)),
        "update_ratios": {name: ratio * rng.uniform(0.5, 2) for name in GRADIENT_GROUPS},
        "predicted_foreground": 0.13 * (1 + 3 * (1 - progress) ** 4) * rng.uniform(0.9, 1.1),
        "true_foreground": 0.13,
        "component_cosine": rng.uniform(0.3, 0.8),
        "component_gradients": {"bce": 0.01, "dice": 0.006},
        "dead_fraction": {"encoder.0": rng.uniform(0, 0.1), "decoder.0": rng.uniform(0, 0.2)},
        "noise_scale": rng.uniform(0.5, 8),
        "data_seconds": 1.0,
        "step_seconds": 10.0,
    }
    return EpochSignals(**(own | changes))


def run(
    rng, *, epochs, first=0.75, limit=0.15, pace=None, noise=0.02, dice=(0.25, 0.9), gap=1.0, given=None, **options
):
    """A run whose loss falls as the summed learning rate lets it.

    Args:
        first, limit: where the loss begins, and where it leads.
        pace: share of the summed learning rate in which the distance falls to 37 %; drawn where None.
        noise: of an epoch's loss, as a share of it.
        dice: validation Dice at the loss `first`, and at `limit`.
        gap: validation loss over training loss at the end.
        given: epoch, learning rate, progress -> changes of the signals of each epoch.
        options: of `facts`.
    """
    about = facts(epochs=epochs, **options)
    config = TrainConfig(**about.config)
    pace = rng.uniform(0.08, 0.2) if pace is None else pace
    rates = [learning_rate(config, e, s, 4) for e in range(1, epochs + 1) for s in range(1, 5)]
    spent = np.cumsum(rates).reshape(epochs, 4)[:, 1] / (sum(rates) or 1)
    records, averaged = [], 0.0
    for epoch in range(1, epochs + 1):
        done = 1 - float(np.exp(-spent[epoch - 1] / pace))
        averaged += 0.7 * (done - averaged)
        loss = (first + (limit - first) * done) * (1 + noise * rng.normal())
        val_loss = (first + (limit * gap - first) * averaged) * (1 + 1.5 * noise * rng.normal())
        val_dice = float(np.clip(dice[0] + (dice[1] - dice[0]) * averaged + 0.4 * noise * rng.normal(), 0, 1))
        lr = rates[4 * epoch - 1]
        changes = given(epoch, lr, done) if given else {}
        precision = float(np.clip(val_dice + 0.03 * rng.normal(), 0, 1))
        recall = float(np.clip(val_dice + 0.03 * rng.normal(), 0, 1))
        records.append(
            EpochRecord(
                epoch=epoch,
                lr=lr,
                train_loss=loss,
                loss_components=components(config.loss, loss),
                val_loss=val_loss,
                val_dice=val_dice,
                val_precision=precision,
                val_recall=recall,
                signals=signals(rng, lr, done, **changes),
            )
        )
    return RunHistory(about, tuple(records), epochs)


def components(loss, total):
    """The components that make up `total` with equal weights of a half, Dice the larger one."""
    if loss == "dice_bce":
        return {"bce": 0.6 * total, "dice": 1.4 * total}
    return {loss: total}


def altered(history, change):
    """The same run with each epoch's record changed: `change(record)` -> fields."""
    return replace(history, epochs=tuple(replace(record, **change(record)) for record in history.epochs))


def blind(history):
    """The same run as it would be known without signals: losses and scores alone."""
    return altered(history, lambda record: {"signals": None})


def first_epochs(history, count):
    return replace(history, epochs=history.epochs[:count])


def with_start(history, **checks):
    return replace(history, start=StartChecks(**checks))


# --- healthy ----------------------------------------------------------------------------------------------------------


def healthy(seed):
    """A healthy run: any length, schedule, loss, noise and end that is still good."""
    rng = np.random.default_rng([1, seed])
    options = {"scheduler": str(rng.choice(SCHEDULES)), "loss": str(rng.choice(LOSSES))}
    first, limit = rng.uniform(0.55, 0.85), rng.uniform(0.08, 0.25)
    dice = (rng.uniform(0.05, 0.4), rng.uniform(0.82, 0.95))
    made = run(
        rng,
        epochs=int(rng.choice(LENGTHS)),
        first=first,
        limit=limit,
        noise=rng.uniform(0.002, 0.035),
        dice=dice,
        gap=rng.uniform(0.8, 1.15),
        lr=float(10 ** rng.uniform(-3.3, -2.7)),
        **options,
    )
    return made if rng.random() < 0.7 else blind(made)


# --- faults -----------------------------------------------------------------------------------------------------------


def _flat(rng, level, dice, given=None, **options):
    """A run that comes down by a tenth and stays."""
    epochs = int(rng.choice((15, 30, 60)))
    noise = rng.uniform(0.002, 0.02)
    first = level * rng.uniform(1.03, 1.12)
    return run(rng, epochs=epochs, first=first, limit=level, dice=dice, noise=noise, given=given, **options)


def lr_too_low(rng):
    lr = float(10 ** rng.uniform(-7, -5.3))
    return _flat(rng, rng.uniform(0.6, 0.85), (0.2, rng.uniform(0.2, 0.4)), lr=lr, scheduler="constant")


def lr_too_high(rng):
    """Thrown weights: large steps at first, weights that grow, losses that swing."""
    swing, grows = rng.uniform(0.15, 0.5), rng.uniform(6, 20)
    made = _flat(
        rng,
        rng.uniform(0.5, 0.8),
        (0.1, rng.uniform(0.1, 0.4)),
        lambda epoch, lr, progress: {
            "update_ratios": dict.fromkeys(GRADIENT_GROUPS, rng.uniform(0.15, 0.6) / epoch),
            "weight_norms": dict.fromkeys(GRADIENT_GROUPS, 10 * min(epoch, grows)),
        },
        lr=float(10 ** rng.uniform(-1.5, 0)),
        scheduler="constant",
    )
    return altered(made, lambda record: {"train_loss": record.train_loss * (1 + swing * abs(rng.normal()))})


def lr_too_high_unseen(rng):
    """The same, known by its losses alone."""
    return blind(lr_too_high(rng))


def gradients_vanishing(rng):
    first = 10 ** rng.uniform(-8, -5.2)
    norms = dict(zip(GRADIENT_GROUPS, (first, first * 10, 1e-2, 0.1), strict=True))
    return _flat(rng, 0.8, (0.2, 0.38), lambda *_: {"gradient_norms": norms})


def gradients_vanishing_unseen(rng):
    """In the deepest layers only: skips lead the gradient to the first ones."""
    deepest = 10 ** rng.uniform(-9, -5.5)
    norms = dict(zip(GRADIENT_GROUPS, (0.02, deepest, 1e-3, 0.1), strict=True))
    return _flat(rng, 0.6, (0.2, 0.5), lambda *_: {"gradient_norms": norms})


def layers_frozen(rng):
    moving = float(10 ** rng.uniform(-3, -2))
    ratios = dict(zip(GRADIENT_GROUPS, (0.0, 0.0, moving, moving), strict=True))
    return _flat(rng, 0.5, (0.2, 0.5), lambda *_: {"update_ratios": ratios})


def channels_dead(rng):
    dead = {f"layer{i}": rng.uniform(0.8, 1) for i in range(6)}
    return _flat(rng, 0.6, (0.2, 0.3), lambda *_: {"dead_fraction": dead})


def gradients_exploding(rng):
    norms = {name: 10 ** rng.uniform(3.4, 6) for name in GRADIENT_GROUPS}
    return _flat(rng, 0.8, (0.1, 0.2), lambda *_: {"gradient_norms": norms})


def loss_not_finite(rng):
    made = lr_too_high(rng)
    stop = int(rng.integers(0, 8))
    return replace(first_epochs(made, stop), non_finite=("dice", stop + 1))


def collapse_to_background(rng):
    share = rng.uniform(0.005, 0.05)
    made = _flat(
        rng,
        rng.uniform(0.05, 0.3),
        (0.0, 0.0),
        lambda *_: {"predicted_foreground": share * rng.uniform(0, 0.1), "true_foreground": share},
        loss="bce",
        foreground_fraction=share,
        pos_weight=0.05,
    )
    return altered(made, lambda _: {"val_dice": rng.uniform(0, 0.03), "val_recall": 0.01, "val_precision": 0.3})


def collapse_to_foreground(rng):
    share = rng.uniform(0.05, 0.2)
    made = _flat(
        rng,
        rng.uniform(0.6, 1.0),
        (0.3, 0.3),
        lambda *_: {"predicted_foreground": rng.uniform(0.7, 1), "true_foreground": share},
        foreground_fraction=share,
        loss="bce",
        pos_weight=100.0,
    )
    dice = 2 * share / (1 + share)
    return altered(made, lambda _: {"val_dice": dice, "val_recall": 0.99, "val_precision": share})


def loss_weights_wrong(rng):
    cosine = rng.uniform(-0.9, -0.6)
    made = _flat(rng, 0.6, (0.3, 0.42), lambda *_: {"component_cosine": cosine})
    return altered(made, lambda record: {"loss_components": {"bce": 0.3, "dice": 2 * record.train_loss - 0.3}})


def batch_too_noisy(rng):
    scale = 10 ** rng.uniform(2.2, 3.5)
    return _flat(rng, 0.45, (0.2, 0.55), lambda *_: {"noise_scale": scale}, scheduler="constant")


def overfitting(rng):
    made = run(rng, epochs=60, limit=rng.uniform(0.01, 0.08), pace=0.12, dice=(0.2, 0.75), scheduler="constant")
    turn, rise = int(rng.integers(8, 20)), rng.uniform(0.01, 0.03)
    level = made.epochs[turn].val_loss * rng.uniform(1.2, 2)
    bent = lambda record: level * (1 + rise * (record.epoch - turn)) * (1 + 0.02 * rng.normal())  # noqa: E731
    return altered(made, lambda record: {"val_loss": bent(record) if record.epoch > turn else record.val_loss + level})


def network_too_large(rng):
    scans = int(rng.integers(12, 30))
    return run(rng, epochs=40, limit=0.06, dice=(0.2, 0.7), gap=rng.uniform(3, 6), train_scans=scans)


def lr_decayed_early(rng):
    gamma, epochs = rng.uniform(0.1, 0.4), int(rng.choice((20, 50)))
    return run(rng, epochs=epochs, limit=0.4, dice=(0.2, 0.6), scheduler="exponential", gamma=gamma)


def data_at_fault(rng):
    made = _flat(rng, 0.7, (0.1, rng.uniform(0.1, 0.4)), data_findings={"masks_inverted": "error"})
    return made if rng.random() < 0.5 else blind(made)


def input_ignored(rng):
    loss = rng.uniform(0.4, 0.7)
    made = _flat(rng, 0.7, (0.1, 0.25))
    return with_start(made, loss=loss, zeroed_input_loss=loss * rng.uniform(0.98, 1.04), overfit_steps=100)


def one_batch_not_learnt(rng):
    made = _flat(rng, 0.7, (0.1, 0.25))
    return with_start(made, overfit_dice=rng.uniform(0.1, 0.4), overfit_steps=100, lr_found=1e-3)


def train_scans_few(rng):
    return run(rng, epochs=30, limit=0.2, dice=(0.2, 0.8), train_scans=int(rng.integers(3, 8)))


def masks_unpredictable(rng):
    made = _flat(rng, 0.57, (0.0, 0.0), lambda *_: {"predicted_foreground": 0.0})
    return altered(made, lambda _: {"loss_components": {"bce": 0.39, "dice": 0.75}, "val_dice": 0.0, "val_recall": 0.0})


def labels_noisy(rng):
    made = _flat(rng, rng.uniform(0.3, 0.5), (0.3, rng.uniform(0.45, 0.62)), scheduler="constant")
    return with_start(made, overfit_dice=rng.uniform(0.85, 0.99), overfit_steps=60, lr_found=2e-3)


FAULTS = (
    data_at_fault,
    input_ignored,
    one_batch_not_learnt,
    loss_not_finite,
    gradients_exploding,
    layers_frozen,
    channels_dead,
    gradients_vanishing,
    gradients_vanishing_unseen,
    lr_decayed_early,
    lr_too_low,
    lr_too_high,
    lr_too_high_unseen,
    masks_unpredictable,
    collapse_to_background,
    collapse_to_foreground,
    loss_weights_wrong,
    batch_too_noisy,
    overfitting,
    network_too_large,
    labels_noisy,
    train_scans_few,
)


def planted(fault, seed):
    """The fault's history of this seed, and the code that is right for it."""
    return fault(np.random.default_rng([2, seed])), fault.__name__.removesuffix("_unseen")
