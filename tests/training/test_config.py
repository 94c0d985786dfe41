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
        ("accumulation_steps", 0),
        ("accumulation_steps", 1025),
        ("loss", "mse"),
        ("bce_weight", -0.1),
        ("bce_weight", math.nan),
        ("dice_weight", -0.1),
        ("dice_weight", math.inf),
        ("border_weight", -1),
        ("border_weight", 1001),
        ("border_sigma", 0),
        ("dice_denominator", "cubed"),
        ("focal_weight", -0.1),
        ("focal_alpha", 1.1),
        ("focal_gamma", -1),
        ("tversky_alpha", 0),
        ("tversky_beta", 1.1),
        ("focal_tversky_exponent", 0),
        ("cldice_alpha", -0.1),
        ("cldice_alpha", 1.1),
        ("cldice_iterations", 0),
        ("boundary_weight", -0.1),
        ("optimizer", "lion"),
        ("momentum", -0.1),
        ("momentum", 1),
        ("nesterov", "perhaps"),
        ("weight_decay", -1),
        ("gradient_clipping", -1),
        ("gradient_clipping", math.nan),
        ("scheduler", "linear"),
        ("warmup_epochs", -1),
        ("step_size", 0),
        ("gamma", 0),
        ("gamma", 1.1),
        ("power", 0),
        ("power", 10.1),
        ("plateau_patience", 0),
        ("normalisation", "minmax"),
        ("augmentation", "heavy"),
        ("val_fraction", 0),
        ("val_fraction", 0.51),
        ("ema_decay", 1),
        ("ema_decay", -0.1),
        ("precision", "fp8"),
        ("patience", -1),
        ("max_minutes", -1),
        ("max_minutes", math.inf),
        ("val_freq", 0),
        ("save_freq", 0),
        ("keep_last", 0),
        ("keep_last", 101),
        ("deterministic", "perhaps"),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_value_out_of_range_is_refused_with_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({field: value})
    assert places(caught) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("foreground_oversampling", -0.1),
        ("foreground_oversampling", 1.1),
        ("epochs", 0),
        ("epochs", 10_001),
        ("epochs", 2.5),
        ("lr", 0),
        ("lr", -1),
        ("lr", 1.01),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", "fast"),
        ("batch_size", 0),
        ("batch_size", 1025),
        ("batch_size", 2.5),
        ("batch_size", "large"),
    ],
)
def test_number_or_auto_out_of_range_is_refused_with_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({field: value})
    assert all(place.startswith(field) for place in places(caught))


@pytest.mark.parametrize("value", [31, 4097, "large"])
def test_patch_size_out_of_range_is_refused_with_its_field(value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({"patch_size": value})
    assert all(place.startswith("patch_size") for place in places(caught))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 1),
        ("lr", 1),
        ("lr", "auto"),
        ("batch_size", "auto"),
        ("momentum", 0),
        ("gradient_clipping", 0),
        ("warmup_epochs", 1000),
        *((name, "auto") for name in ("epochs", "model", "loss", "optimizer", "scheduler")),
        *((name, "auto") for name in ("augmentation", "normalisation")),
        ("patience", 0),
        ("max_minutes", 0),
        ("deterministic", True),
        ("pos_weight", None),
        ("pos_weight", "auto"),
        ("class_weights", "auto"),
        ("focal_gamma", 0),
        ("patch_size", 32),
        ("patch_size", "auto"),
        ("ema_decay", 0),
    ],
)
def test_value_at_the_edge_of_its_range_is_taken(field, value):
    assert getattr(TrainConfig.model_validate({field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pos_weight", 0),
        ("pos_weight", math.nan),
        ("pos_weight", 10_001),
        ("pos_weight", "some"),
        ("class_weights", "heavy"),
        ("class_weights", (1, -1)),
        ("class_weights", (1, math.nan)),
        ("class_weights", (0, 0)),
        ("class_weights", ()),
        ("class_weights", ""),
        ("class_weights", 3),
    ],
)
def test_weight_of_a_class_out_of_range_is_refused_with_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({field: value})
    assert all(place.startswith(field) for place in places(caught))


@pytest.mark.parametrize("text", ["1,2.5,0", "1, 2.5, 0", "[1, 2.5, 0]", [1, 2.5, 0], (1, 2.5, 0)])
def test_class_weights_come_as_text_or_as_a_list(text):
    assert TrainConfig.model_validate({"class_weights": text}).class_weights == (1, 2.5, 0)


@pytest.mark.parametrize("loss", ["dice_bce", "dice_ce"])
def test_loss_without_any_weight_is_refused_by_both_names(loss):
    with pytest.raises(ValidationError, match="bce_weight and dice_weight are both 0"):
        TrainConfig(loss=loss, bce_weight=0, dice_weight=0)
    assert TrainConfig(loss=loss, bce_weight=0).dice_weight == 0.5


def test_other_losses_need_their_own_weights():
    with pytest.raises(ValidationError, match="focal_weight and dice_weight are both 0"):
        TrainConfig(loss="focal_dice", focal_weight=0, dice_weight=0)
    with pytest.raises(ValidationError, match="dice_weight is 0; loss=boundary needs it above 0"):
        TrainConfig(loss="boundary", dice_weight=0)
    TrainConfig(loss="tversky", bce_weight=0, dice_weight=0)


@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(5, 5), (5, 6), (1, 1)])
def test_warm_up_that_never_ends_is_refused_by_both_names(epochs, warmup_epochs):
    with pytest.raises(ValidationError, match=f"warmup_epochs={warmup_epochs} must be below epochs={epochs}"):
        TrainConfig(epochs=epochs, warmup_epochs=warmup_epochs)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        TrainConfig(optimizer="sgd", momentum=0, nesterov=True)


def test_unknown_network_is_refused_with_the_names_there_are():
    with pytest.raises(ValidationError, match="unet_transformer, unet") as caught:
        TrainConfig(model="resnet")
    assert places(caught) == ["model"]


def test_config_cannot_be_changed_once_made():
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().epochs = 3


def test_config_survives_the_way_through_json():
    config = TrainConfig(epochs=3, lr=3e-4, pos_weight=2.5, patch_size=64, model="unet", scheduler="cosine", seed=7)
    config = config.model_copy(update={"class_weights": (1.0, 2.0)})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert TrainConfig.model_validate(json.loads(json.dumps(TrainConfig().model_dump(mode="json")))) == TrainConfig()


def test_form_values_come_as_text():
    config = TrainConfig.model_validate({"epochs": "3", "lr": "0.001", "patch_size": "64", "nesterov": "true"})
    assert (config.epochs, config.lr, config.patch_size, config.nesterov) == (3, 0.001, 64, True)


def test_every_field_has_a_default_and_a_description():
    TrainConfig()
    assert [name for name, field in TrainConfig.model_fields.items() if not field.description] == []
