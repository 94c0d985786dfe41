from __future__ import annotations

from typing import get_args

import pytest

from octa_backend.commands import script_options
from octa_backend.commands.script_options import WEIGHTS, ScriptOptions, amp_precision, in_fields
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_options import LossName
from octa_backend.training.losses import make_loss
from octa_backend.training.precision import Hardware


def fields(values=None, kept=None, **given):
    return in_fields(ScriptOptions(**given), values or {}, kept or {}, "cpu")


@pytest.mark.parametrize("loss", [*WEIGHTS, "cldice"])
def test_two_weights_are_those_of_the_loss_s_components_in_their_order(loss):
    config = TrainConfig(pos_weight=None, **fields({"loss": loss}, loss_weights=(0.6, 0.4)))
    assert list(make_loss(config).weights.values()) == pytest.approx([0.6, 0.4])


def test_every_loss_of_two_components_can_be_weighed():
    open_weights = {"pos_weight": 1.0, "class_weights": (1.0, 1.0)}
    losses = {name: make_loss(TrainConfig(loss=name, **open_weights)) for name in get_args(LossName)}
    assert {name for name, loss in losses.items() if len(loss.weights) == 2} == {*WEIGHTS, "cldice"}


def test_weights_are_those_of_the_loss_that_a_training_goes_on_with():
    kept = {"loss": "boundary"}
    assert fields(kept=kept, loss_weights=(1, 2)) == {"dice_weight": 1, "boundary_weight": 2}
    assert fields({"loss": "dice_ce"}, kept, loss_weights=(1, 2))["bce_weight"] == 1


@pytest.mark.parametrize("values", [{}, {"loss": "auto"}])
def test_weights_of_a_loss_that_is_left_open_are_those_of_cross_entropy_and_dice(values):
    assert fields(values, loss_weights=(1, 2)) == {**values, "bce_weight": 1, "dice_weight": 2}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(None, "focal_dice"), ("auto", "focal_dice"), ("focal", "focal"), ("focal_dice", "focal_dice")],
)
def test_a_focal_loss_is_the_one_that_is_named_or_the_one_with_dice(loss, expected):
    assert fields({"loss": loss} if loss else {}, focal_loss=True) == {"loss": expected}


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        (Hardware("cuda:0", 0.0, True), "fp16"),
        (Hardware("cuda:0", 2.0, True), "auto"),
        (Hardware("cpu", 2.0, True), "auto"),
        (Hardware("cpu", 0.0, False), "auto"),
    ],
)
def test_amp_is_fp16_on_a_gpu_without_bf16_and_else_what_pays(hardware, expected, monkeypatch):
    assert amp_precision(hardware) == expected
    monkeypatch.setattr(script_options, "probe", lambda device: hardware)
    assert fields(amp=True) == {"precision": expected}
    assert fields({"precision": "bf16"}, amp=True) == {"precision": "bf16"}


def test_what_was_not_given_sets_nothing_and_measures_nothing(monkeypatch):
    monkeypatch.delattr(script_options, "probe")
    assert fields({"lr": "0.1"}) == {"lr": "0.1"}
