"""The trainings that the doctor is measured on: healthy ones, and planted faults with the findings that are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planted_networks import as_built, dead_rectifiers, deep_without_norms, frozen, overflowing_half, zero_head
from planted_scans import (
    PlantScans,
    as_given,
    few,
    grey,
    inverted,
    random_labels,
    scarce,
    shifted,
    shuffled,
    with_nan,
)
from torch import nn
from training_sets import SIDES

from octa_backend.training.config import TrainConfig

HEALTHY_LR = 0.01
"""Of `tiny_unet` with `adam` on these scans: in 16 epochs it reached a Dice of 0.88 on the drawn ones, with 0.003 0.86
and with 0.001 0.78; the range test finds 0.022."""

HIGHEST_LR = 1.0
"""What `TrainConfig` allows: a hundred times the healthy one, a thousand times the default."""

EPOCHS = 12
"""Of most runs: enough for a clean one to come near its best."""

USUAL: Mapping[str, Any] = {"model": "tiny_unet", "epochs": EPOCHS, "lr": HEALTHY_LR, "batch_size": 2}

CLEAN = "clean"

PlantNetwork = Callable[[nn.Module, TrainConfig], nn.Module]


@dataclass(frozen=True)
class Case:
    """A training, and what would be right to say of it.

    Attributes:
        right: codes of findings, any of which names the planted cause; none for a healthy run.
        options: fields of `TrainConfig` other than `USUAL`.
        scans: plants a fault in the scans.
        network: plants a fault in the network.
        in_weights: whether the network's fault is one of its weights: a run that begins anew is rid of it.
        clean: the case that is the same run without the fault.
    """

    right: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    scans: PlantScans = as_given
    network: PlantNetwork = as_built
    in_weights: bool = False
    clean: str = CLEAN

    @property
    def is_healthy(self) -> bool:
        return not self.right


def lr_times(factor: float) -> dict[str, Any]:
    return {"lr": factor * HEALTHY_LR}


THROWN = ("lr_too_high", "loss_not_finite", "gradients_exploding")
UNHEARD = ("loss_weights_wrong", "collapse_to_background", "collapse_to_foreground")
BAD_MASKS = ("data_at_fault", "masks_unpredictable", "labels_noisy")

FAULTS: Mapping[str, Case] = {
    "lr_highest": Case(THROWN, {"lr": HIGHEST_LR}),
    "lr_x30": Case(THROWN, lr_times(30)),
    "lr_/100": Case(("lr_too_low",), lr_times(1 / 100)),
    "lr_/1000": Case(("lr_too_low",), lr_times(1 / 1000)),
    "lr_decayed_at_once": Case(("lr_decayed_early",), {"scheduler": "exponential", "gamma": 0.1}),
    "weights_dice": Case(UNHEARD, {"dice_weight": 0.99, "bce_weight": 0.01}),
    "weights_bce": Case(UNHEARD, {"dice_weight": 0.01, "bce_weight": 0.99}),
    "frozen_encoder": Case(("layers_frozen", "gradients_vanishing"), network=frozen),
    "zero_head": Case(
        ("input_ignored", "one_batch_not_learnt", "gradients_vanishing", "layers_frozen"),
        network=zero_head,
        in_weights=True,
    ),
    "dead_rectifiers": Case(("channels_dead",), network=dead_rectifiers, in_weights=True),
    "deep_without_norms": Case(
        ("gradients_vanishing", "input_ignored", "one_batch_not_learnt"), network=deep_without_norms
    ),
    "fp16_overflow": Case(("loss_not_finite",), {"precision": "fp16"}, network=overflowing_half),
    "batch_of_1": Case(("batch_too_noisy",), {"batch_size": 1}),
    "masks_shuffled": Case(BAD_MASKS, scans=shuffled),
    "masks_shifted": Case(BAD_MASKS, scans=shifted),
    "masks_inverted": Case(BAD_MASKS, scans=inverted),
    "masks_grey": Case(BAD_MASKS, scans=grey),
    "labels_random": Case(BAD_MASKS, scans=random_labels),
    "nan_pixel": Case(("data_at_fault", "loss_not_finite"), scans=with_nan),
    "five_scans": Case(
        ("train_scans_few", "overfitting", "network_too_large"), {"epochs": 30}, scans=few, clean="healthy_30"
    ),
    "scarce_unweighted": Case(
        ("collapse_to_background", "loss_weights_wrong"),
        {"loss": "bce", "pos_weight": None},
        scans=scarce,
        clean="scarce_weighted",
    ),
}

HEALTHY: Mapping[str, Case] = {
    CLEAN: Case(),
    "scarce_weighted": Case(scans=scarce),
    "healthy_30": Case(options={"epochs": 30}),
    "healthy_6": Case(options={"epochs": 6}),
    "healthy_8_cosine": Case(options={"epochs": 8, "scheduler": "cosine"}),
    "healthy_10_constant": Case(options={"epochs": 10, "scheduler": "constant", "lr": HEALTHY_LR / 3}),
    "healthy_12_bce": Case(options={"epochs": 12, "loss": "bce", "lr": HEALTHY_LR / 2}),
    "healthy_14_dice": Case(options={"epochs": 14, "loss": "dice", "scheduler": "poly"}),
    "healthy_20_tversky": Case(options={"epochs": 20, "loss": "focal_tversky", "lr": HEALTHY_LR / 2}),
    "healthy_24_sgd": Case(options={"epochs": 24, "optimizer": "sgd", "lr": 0.1, "scheduler": "cosine"}),
    "healthy_30_step": Case(options={"epochs": 30, "scheduler": "step", "step_size": 10, "gamma": 0.5}),
    "healthy_30_decay": Case(options={"epochs": 30, "optimizer": "adamw", "weight_decay": 0.01, "warmup_epochs": 3}),
    "healthy_36_plateau": Case(options={"epochs": 36, "scheduler": "plateau", "lr": HEALTHY_LR / 2, "batch_size": 4}),
    "healthy_60": Case(options={"epochs": 60, "lr": HEALTHY_LR / 2}),
}

CASES: Mapping[str, Case] = {**HEALTHY, **FAULTS}

COMPARED = tuple(dict.fromkeys(case.clean for case in FAULTS.values()))
"""Healthy cases that faults are compared with: they are run with every seed."""


def options_of(case: Case, data: str) -> dict[str, Any]:
    """Fields of the case's `TrainConfig` on a set, without the seed."""
    return {**USUAL, "patch_size": SIDES[data], **case.options}
