from __future__ import annotations

import pytest

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.diagnosis.content import SCARCE_FOREGROUND, TOO_SCARCE_FOREGROUND
from octa_backend.errors import InvalidConfig
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_options import OPTIONS, USES
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware

CPU = Hardware("cpu", bf16_speedup=0.0, channels_last=False)


def plan(classes=2, pixels=None, foreground=0.1, **options):
    entries = tuple(ScanEntry(f"s{i}", None, None, (64, 64), "uint8", 0, 0) for i in range(2))
    manifest = Manifest(2, 1, classes, tuple(range(classes)), foreground, entries)
    return make_plan(TrainConfig(**options), manifest, CPU, None if pixels is None else lambda: pixels)


def reasons(found, field):
    return [reason for reason in found.reasons if reason.field == field]


def count_nothing():
    raise AssertionError("the masks were read, but nothing needs their count")


# --- the loss that fits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "classes", "expected"),
    [("dice_bce", 3, "dice_ce"), ("bce", 3, "ce"), ("dice_ce", 2, "dice_bce"), ("ce", 2, "bce")],
)
def test_loss_for_the_other_kind_of_masks_gives_way_to_its_partner_with_a_reason(loss, classes, expected):
    found = plan(classes, loss=loss)
    assert found.config.loss == expected
    (reason,) = reasons(found, "loss")
    assert reason.value == expected
    assert ("3 classes" if classes == 3 else "binary") in reason.reason


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", sorted(set(USES) - {"dice_bce", "dice_ce", "bce", "ce"}))
def test_loss_for_both_kinds_of_masks_stays(loss, classes):
    found = plan(classes, pixels=(9, 1, 1)[:classes], loss=loss)
    assert found.config.loss == loss
    assert reasons(found, "loss") == []


# --- weights that are left to the data ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["auto", "dice_bce", "bce"])
@pytest.mark.parametrize("foreground", [TOO_SCARCE_FOREGROUND, 0.999 * SCARCE_FOREGROUND])
def test_scarce_foreground_is_weighed_by_background_over_foreground_of_the_training_scans(loss, foreground):
    found = plan(pixels=(980, 20), loss=loss, foreground=foreground)
    assert found.config.pos_weight == 49.0
    (reason,) = reasons(found, "pos_weight")
    assert reason.value == 49.0
    assert "2.00% are foreground" in reason.reason


@pytest.mark.parametrize(
    ("foreground", "said"), [(SCARCE_FOREGROUND, "not scarce"), (0.999 * TOO_SCARCE_FOREGROUND, "only 0.50%")]
)
def test_foreground_that_is_ordinary_or_too_scarce_for_it_has_no_weight_and_it_is_said_why(foreground, said):
    entries = (ScanEntry("s0", None, None, (64, 64), "uint8", 0, 0),)
    found = make_plan(TrainConfig(), Manifest(2, 1, 2, (0, 1), foreground, entries), CPU, count_nothing)
    assert (found.config.loss, found.config.pos_weight) == ("dice_bce", None)
    (reason,) = reasons(found, "pos_weight")
    assert said in reason.reason


def test_cross_entropy_alone_is_weighed_however_scarce_the_foreground_is():
    assert plan(pixels=(980, 20), loss="bce", foreground=0.002).config.pos_weight == 49.0


def test_given_pos_weight_wins_over_the_data():
    found = plan(foreground=0.01, pos_weight=3)
    assert (found.config.pos_weight, reasons(found, "pos_weight")) == (3, [])
    assert plan(foreground=0.01, pos_weight=None).config.pos_weight is None


@pytest.mark.parametrize(("classes", "expected"), [(2, "dice_bce"), (3, "dice_ce")])
def test_loss_that_is_left_open_is_the_one_for_the_classes(classes, expected):
    found = plan(classes)
    assert found.config.loss == expected
    assert [reason.value for reason in reasons(found, "loss")] == [expected]


@pytest.mark.parametrize("loss", ["weighted_ce", "unet_weight_map"])
def test_class_weights_auto_are_inverse_frequencies_of_the_training_scans(loss):
    found = plan(classes=3, pixels=(80, 15, 5), loss=loss)
    assert found.config.class_weights == (0.4167, 2.222, 6.667)
    (reason,) = reasons(found, "class_weights")
    assert reason.value == [0.4167, 2.222, 6.667]
    assert "80.00% of the training pixels are background, 15.00%, 5.00%" in reason.reason


def test_without_masks_at_hand_binary_ones_are_weighed_by_the_manifests_mean():
    assert plan(foreground=0.01).config.pos_weight == pytest.approx(99, rel=1e-2)
    assert plan(loss="weighted_ce").config.class_weights == pytest.approx((1 / 1.8, 5), rel=1e-2)
    with pytest.raises(InvalidConfig, match="give a weight for each class"):
        plan(classes=3, loss="weighted_ce")


@pytest.mark.parametrize("options", [{}, {"pos_weight": 3}, {"loss": "weighted_ce", "class_weights": (1, 2)}])
def test_masks_are_counted_only_where_a_weight_needs_it(options):
    entries = (ScanEntry("s0", None, None, (64, 64), "uint8", 0, 0),)
    make_plan(TrainConfig(**options), Manifest(2, 1, 2, (0, 1), 0.1, entries), CPU, count_nothing)


def test_given_weights_stay():
    found = plan(loss="weighted_ce", class_weights=(1, 5))
    assert found.config.class_weights == (1, 5)
    assert reasons(found, "class_weights") == []


@pytest.mark.parametrize(("classes", "weights"), [(2, (1, 2, 3)), (3, (1, 2)), (2, (1,))])
@pytest.mark.parametrize("loss", ["weighted_ce", "unet_weight_map"])
def test_other_number_of_weights_than_classes_is_refused_with_both_numbers(loss, classes, weights):
    with pytest.raises(InvalidConfig, match=f"has {len(weights)} weights, but the masks have {classes} classes"):
        plan(classes, loss=loss, class_weights=weights)


def test_resolved_weights_are_kept_on_resuming():
    first = plan(pixels=(980, 20), foreground=0.01, loss="dice_bce")
    resumed = first.with_config(TrainConfig(epochs=90, loss="dice_bce"))
    assert (resumed.config.epochs, resumed.config.pos_weight) == (90, 49.0)
    first = plan(pixels=(80, 20), loss="weighted_ce")
    assert first.with_config(TrainConfig(loss="weighted_ce")).config.class_weights == first.config.class_weights


def test_plan_with_class_weights_survives_the_way_through_json():
    found = plan(classes=3, pixels=(80, 15, 5), loss="weighted_ce")
    assert Plan.model_validate_json(found.model_dump_json()) == found


# --- options that the loss does not look at -------------------------------------------------------------------------


def test_changed_option_that_the_loss_does_not_look_at_is_named_with_the_losses_that_do():
    found = plan(loss="tversky", focal_gamma=3.0, bce_weight=0.7, tversky_alpha=0.5)
    (focal,), (bce,) = reasons(found, "focal_gamma"), reasons(found, "bce_weight")
    assert focal.value == 3.0
    assert "no effect on loss=tversky" in focal.reason
    assert "focal, focal_dice" in focal.reason
    assert "dice_bce, dice_ce" in bce.reason
    assert reasons(found, "tversky_alpha") == []


def test_pos_weight_is_named_where_the_plan_took_the_softmax():
    (reason,) = reasons(plan(classes=3, pos_weight=4), "pos_weight")
    assert "no effect on loss=dice_ce" in reason.reason


@pytest.mark.parametrize("loss", USES)
def test_nothing_is_named_where_nothing_was_changed(loss):
    found = plan(classes=3, pixels=(1, 1, 1), loss=loss)
    assert not [reason for name in OPTIONS for reason in reasons(found, name) if "no effect" in reason.reason]
