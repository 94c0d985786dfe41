from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from octa_backend.diagnosis.config_remedies import AUTOMATIC_CONFIDENCE, PRESETS, is_automatic, remedy_for
from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.run_checks_balance import loss_weights_wrong
from octa_backend.diagnosis.run_view import RunView
from octa_backend.training.augmentation_options import resolve
from tests.diagnosis.histories import altered, first_epochs, run, with_start


def a_run(epochs=10, given=None, **options):
    return run(np.random.default_rng(0), epochs=epochs, given=given, **options)


def changes(code, history):
    return remedy_for(code, RunView(history)).changes


def test_low_rate_is_raised_to_that_of_the_range_test():
    assert changes("lr_too_low", with_start(a_run(lr=1e-5), lr_found=2e-3)) == {"lr": 2e-3}


def test_without_a_range_test_the_size_of_the_steps_says_how_much():
    tiny = lambda *_: {"update_ratios": {"encoder_conv1": 3e-5}}  # noqa: E731
    assert changes("lr_too_low", a_run(lr=1e-5, scheduler="constant", given=tiny)) == {"lr": 1e-3}


def test_raised_rate_stays_below_the_diverging_one():
    tiny = lambda *_: {"update_ratios": {"encoder_conv1": 3e-6}}  # noqa: E731
    history = with_start(a_run(lr=1e-5, scheduler="constant", given=tiny), lr_diverges=4e-3)
    assert changes("lr_too_low", history) == {"lr": 1e-3}


def test_high_rate_falls_to_a_tenth_or_to_the_range_test():
    assert changes("lr_too_high", a_run(lr=0.1)) == {"lr": 0.01}
    assert changes("lr_too_high", with_start(a_run(lr=0.1), lr_found=2e-3)) == {"lr": 2e-3}


def test_thrown_weights_are_not_gone_on_with():
    good, thrown = a_run(lr=0.1), a_run(lr=0.1, first=0.7, limit=0.69, dice=(0.0, 0.1))
    for history, goes_on in ((good, True), (thrown, False)):
        mild = with_start(history, lr_found=0.03)
        assert remedy_for("lr_too_high", RunView(mild)).from_checkpoint is goes_on


def test_far_too_high_rate_begins_anew_even_where_something_was_learnt():
    for history in (a_run(lr=0.1), with_start(a_run(lr=0.1), lr_found=0.01)):
        assert remedy_for("lr_too_high", RunView(history)).from_checkpoint is False


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"augmentation": "light"}, {"augmentation": "standard"}),
        ({"augmentation": "standard"}, {"augmentation": "strong"}),
        ({"augmentation": "strong"}, {"optimizer": "adamw", "weight_decay": 0.01}),
        ({"augmentation": "strong", "optimizer": "adamw"}, {"weight_decay": 0.01}),
        ({"augmentation": "strong", "optimizer": "sgd", "lr": 0.1}, {"weight_decay": 5e-4}),
        ({"augmentation": "strong", "weight_decay": 0.01}, {"patience": 5}),
        ({"augmentation": "strong", "weight_decay": 0.01, "patience": 8}, {"patience": 5}),
    ],
)
def test_overfitting_is_met_step_by_step(options, expected):
    assert changes("overfitting", a_run(**options)) == expected


def test_a_run_that_ends_early_already_is_not_given_more_patience():
    assert remedy_for("overfitting", RunView(a_run(augmentation="strong", weight_decay=0.01, patience=3))) is None


@pytest.mark.parametrize(("weaker", "stronger"), list(pairwise(PRESETS)))
def test_stronger_augmentation_takes_all_overrides_of_a_weaker_one(weaker, stronger):
    before, after = (resolve(preset, None).model_dump() for preset in (weaker, stronger))
    for name in before:
        if name.endswith("_probability"):
            assert after[name] > 0 or before[name] == 0
        else:
            assert after[name] <= before[name] if name.endswith("_min") else after[name] >= before[name]
    assert after["elastic_shift"] == before["elastic_shift"]
    assert after["elastic_spacing"] == before["elastic_spacing"]


def test_foreground_is_weighed_by_the_root_of_its_scarcity_or_by_another_loss():
    assert changes("collapse_to_background", a_run(foreground_fraction=0.01)) == {"pos_weight": 9.9}
    assert changes("collapse_to_background", a_run(foreground_fraction=1e-5)) == {"pos_weight": 20.0}
    assert changes("collapse_to_background", a_run(foreground_fraction=0.01, pos_weight=50)) == {
        "loss": "focal_tversky"
    }
    assert changes("collapse_to_background", a_run(loss="dice")) == {"loss": "focal_tversky"}
    assert changes("collapse_to_background", a_run(loss="bce")) == {"loss": "dice_bce"}
    assert changes("collapse_to_background", a_run(loss="ce")) == {"loss": "dice_ce"}


def test_own_weight_of_foreground_is_taken_away_first():
    assert changes("collapse_to_foreground", a_run(pos_weight=50)) == {"pos_weight": 1.0}
    assert changes("collapse_to_foreground", a_run())["loss"] == "tversky"


def test_weight_goes_to_the_component_that_stays_high():
    assert changes("loss_weights_wrong", a_run()) == {"dice_weight": 0.7, "bce_weight": 0.3}
    assert changes("loss_weights_wrong", a_run(dice_weight=0.9)) == {"dice_weight": 0.5, "bce_weight": 0.5}
    assert changes("loss_weights_wrong", a_run(loss="cldice")) == {"loss": "dice_bce"}


def test_the_cross_entropy_that_stays_high_gets_the_weight_as_dice_does():
    high = {"loss_components": {"bce": 0.72, "dice": 0.55}}
    assert changes("loss_weights_wrong", altered(a_run(), lambda _: high)) == {"bce_weight": 0.7, "dice_weight": 0.3}
    weighed = altered(a_run(bce_weight=0.9), lambda _: high)
    assert changes("loss_weights_wrong", weighed) == {"bce_weight": 0.5, "dice_weight": 0.5}
    of_classes = altered(a_run(loss="dice_ce"), lambda _: {"loss_components": {"ce": 1.1, "dice": 0.55}})
    assert changes("loss_weights_wrong", of_classes) == {"bce_weight": 0.7, "dice_weight": 0.3}


def test_the_weight_goes_to_the_component_that_the_finding_names():
    """One that hardly counts is what stays high, also where the other one is higher."""
    gradients = {"component_gradients": {"bce": 0.001, "dice": 1.0}}
    made = a_run(given=lambda *_: gradients, epochs=20, first=0.6, limit=0.59, dice=(0.1, 0.2), scheduler="constant")
    view = RunView(altered(made, lambda _: {"loss_components": {"bce": 0.6, "dice": 0.62}}))
    assert loss_weights_wrong(view).evidence["component"] == "bce"
    assert remedy_for("loss_weights_wrong", view).changes == {"bce_weight": 0.7, "dice_weight": 0.3}


def test_what_the_run_has_already_is_not_proposed():
    assert changes("gradients_exploding", a_run()) == {"gradient_clipping": 1.0}
    assert remedy_for("gradients_exploding", RunView(a_run(gradient_clipping=1.0))) is None
    assert remedy_for("lr_decayed_early", RunView(a_run(scheduler="cosine"))) is None


def test_non_finite_numbers_in_half_precision_ask_for_full_precision():
    history = a_run(precision="fp16")
    assert changes("loss_not_finite", history) == {"precision": "fp32"}
    assert changes("loss_not_finite", first_epochs(a_run(lr=0.1), 0)) == {"lr": 0.01}


def test_more_scans_per_step_but_not_more_than_an_epoch_has():
    assert changes("batch_too_noisy", a_run(steps_per_epoch=100)) == {"accumulation_steps": 4}
    assert changes("batch_too_noisy", a_run(steps_per_epoch=8)) == {"accumulation_steps": 2}


def test_gravest_finding_of_the_data_names_the_repair():
    found = {"masks_inverted": "warning", "scans_blank": "error", "mask_unrelated": "error"}
    remedy = remedy_for("data_at_fault", RunView(a_run(data_findings=found)))
    assert remedy == Remedy("drop_unusable", from_checkpoint=False)
    assert remedy_for("data_at_fault", RunView(a_run(data_findings={"mask_unrelated": "error"}))) is None


def test_finding_about_few_scans_names_no_repair():
    found = {"scans_blank": "warning", "masks_inverted": "warning"}
    few = a_run(data_findings=found, data_shares={"scans_blank": 0.8, "masks_inverted": 0.02})
    assert remedy_for("data_at_fault", RunView(few)).code == "drop_unusable"


def test_more_epochs_where_a_run_ends_that_still_learns():
    assert changes("still_learning", a_run(scheduler="constant")) == {"epochs": 20}
    assert remedy_for("still_learning", RunView(first_epochs(a_run(scheduler="constant"), 6))) is None
    assert remedy_for("still_learning", RunView(a_run(scheduler="onecycle"))) is None


def test_network_follows_the_number_of_scans():
    assert changes("network_too_large", a_run(train_scans=20)) == {"model": "unet"}
    assert changes("stuck_unexplained", a_run(model="tiny_unet", parameters=70_000)) == {"model": "unet"}
    assert remedy_for("stuck_unexplained", RunView(a_run())) is None


def test_a_larger_network_is_not_called_a_smaller_one():
    larger = remedy_for("stuck_unexplained", RunView(a_run(model="tiny_unet", parameters=70_000)))
    found = Finding(
        "stuck_unexplained", Severity.WARNING, dict.fromkeys(("shape", "best_dice", "epochs")), remedy=larger
    )
    titles = [describe(found, language)["remedy"]["title"] for language in ("en", "zh")]
    assert titles == ["train the network unet", "改用网络 unet"]


def test_networks_that_are_proposed_for_volumes_have_a_form_for_them():
    volumes = {"target_shape": (32, 32, 32), "model": "swin_unetr"}
    assert changes("network_too_large", a_run(**volumes)) == {"model": "tiny_unet"}
    assert changes("gradients_vanishing", a_run(**volumes)) == {"model": "unet3d"}


def test_few_scans_are_trained_on_for_longer_and_then_with_more_augmentation():
    strong = {"augmentation": "strong"}
    assert changes("train_scans_few", a_run(epochs=20, train_scans=5, steps_per_epoch=10)) == {"epochs": 250, **strong}
    assert changes("train_scans_few", a_run(epochs=20, train_scans=5, steps_per_epoch=1)) == {"epochs": 1000, **strong}
    enough = {"epochs": 20, "train_scans": 5, "steps_per_epoch": 125}
    assert changes("train_scans_few", a_run(**enough)) == strong
    assert remedy_for("train_scans_few", RunView(a_run(**enough, augmentation="strong"))) is None


def test_training_a_handful_of_scans_for_longer_needs_nobody():
    few = remedy_for("train_scans_few", RunView(a_run(epochs=20, train_scans=5, steps_per_epoch=10)))
    assert few.code == "train_longer"
    assert is_automatic(Finding("train_scans_few", Severity.WARNING, {"confidence": 0.85}, remedy=few))


def test_remaining_causes_have_their_remedies():
    assert changes("gradients_exploding", a_run()) == {"gradient_clipping": 1.0}
    assert changes("channels_dead", a_run(lr=3e-3, epochs=50)) == {"lr": 1e-3, "warmup_epochs": 5}
    assert changes("lr_decayed_early", a_run(scheduler="exponential")) == {"scheduler": "cosine"}
    assert changes("gradients_vanishing", a_run()) == {"model": "unet"}
    assert remedy_for("labels_noisy", RunView(a_run())) is None


@pytest.mark.parametrize(
    ("code", "sure", "expected"),
    [
        ("lower_lr", AUTOMATIC_CONFIDENCE, True),
        ("lower_lr", AUTOMATIC_CONFIDENCE - 0.01, False),
        ("model", 1.0, True),
        ("more_epochs", 1.0, False),
        ("binarize_masks", 1.0, False),
    ],
)
def test_only_sure_changes_that_cost_no_more_epochs_and_make_no_dataset_are_automatic(code, sure, expected):
    found = Finding("lr_too_high", Severity.WARNING, {"confidence": sure}, remedy=Remedy(code))
    assert is_automatic(found) is expected
    assert is_automatic(replace(found, remedy=None)) is False
