from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from octa_backend.training.config import TrainConfig


def places(caught):
    return [".".join(str(part) for part in error["loc"]) for error in caught.value.errors()]


@pytest.mark.parametrize("field", ["epoch", "learning_rate", "EPOCHS", "batchsize"])
def test_misspelt_field_is_refused_by_name(field):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({field: 3})
    assert places(caught) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 10_001),
        ("epochs", 2.5),
        ("lr", 0),
        ("lr", -1),
        ("lr", 1.01),
        ("lr", math.nan),
        ("lr", math.inf),
        ("batch_size", 0),
        ("loss", "mse"),
        ("bce_weight", -0.1),
        ("bce_weight", math.nan),
        ("dice_weight", -0.1),
        ("dice_weight", math.inf),
        ("pos_weight", 0),
        ("pos_weight", math.nan),
        ("optimizer", "sgd"),
        ("weight_decay", -1),
        ("scheduler", "plateau"),
        ("step_size", 0),
        ("gamma", 0),
        ("gamma", 1.1),
        ("augmentation", "heavy"),
        ("val_fraction", 0),
        ("val_fraction", 0.51),
        ("ema_decay", 1),
        ("ema_decay", -0.1),
        ("precision", "fp16"),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_value_out_of_range_is_refused_with_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({field: value})
    assert places(caught) == [field]


@pytest.mark.parametrize("value", [31, 4097, "large"])
def test_patch_size_out_of_range_is_refused_with_its_field(value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({"patch_size": value})
    assert all(place.startswith("patch_size") for place in places(caught))


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 1), ("lr", 1), ("pos_weight", None), ("patch_size", 32), ("patch_size", "auto"), ("ema_decay", 0)],
)
def test_value_at_the_edge_of_its_range_is_taken(field, value):
    assert getattr(TrainConfig.model_validate({field: value}), field) == value


def test_loss_without_any_weight_is_refused_by_both_names():
    with pytest.raises(ValidationError, match="bce_weight and dice_weight are both 0"):
        TrainConfig(bce_weight=0, dice_weight=0)
    assert TrainConfig(bce_weight=0).dice_weight == 0.5


def test_unknown_network_is_refused_with_the_names_there_are():
    with pytest.raises(ValidationError, match="unet_transformer, unet") as caught:
        TrainConfig(model="resnet")
    assert places(caught) == ["model"]


def test_config_cannot_be_changed_once_made():
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().epochs = 3


def test_config_survives_the_way_through_json():
    config = TrainConfig(epochs=3, lr=3e-4, pos_weight=2.5, patch_size=64, model="unet", scheduler="cosine", seed=7)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert TrainConfig.model_validate(json.loads(json.dumps(TrainConfig().model_dump(mode="json")))) == TrainConfig()


def test_form_values_come_as_text():
    config = TrainConfig.model_validate({"epochs": "3", "lr": "0.001", "patch_size": "64"})
    assert (config.epochs, config.lr, config.patch_size) == (3, 0.001, 64)


def test_every_field_has_a_default_and_a_description():
    TrainConfig()
    assert [name for name, field in TrainConfig.model_fields.items() if not field.description] == []
