from __future__ import annotations

from dataclasses import replace

import pytest

from octa_backend.data.splits import Splits
from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.errors import InvalidConfig
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware

SLOW = Hardware("cpu", bf16_speedup=0.4, channels_last=False)
FAST = Hardware("cpu", bf16_speedup=2.5, channels_last=False)
GPU = Hardware("cuda:0", bf16_speedup=2.0, channels_last=True)
OLD_GPU = Hardware("cuda:0", bf16_speedup=0.0, channels_last=True)


def manifest(*shapes, classes=2, channels=1):
    entries = tuple(ScanEntry(f"s{i}", None, None, shape, "uint8", 0, 0) for i, shape in enumerate(shapes))
    return Manifest(2, channels, classes, tuple(range(classes)), 0.1, entries)


ONE_SIZE = manifest((304, 304))
ORDINARY = manifest(*[(304, 304)] * 100)


def reason_for(plan, field):
    (found,) = [reason for reason in plan.reasons if reason.field == field]
    return found


@pytest.mark.parametrize(
    ("hardware", "precision", "patch_size", "channels_last"),
    [(SLOW, "fp32", 256, False), (FAST, "bf16", 512, True), (GPU, "bf16", 512, True), (OLD_GPU, "fp32", 512, True)],
)
def test_what_is_auto_is_resolved_for_the_device(hardware, precision, patch_size, channels_last):
    plan = make_plan(TrainConfig(), ONE_SIZE, hardware)
    assert (plan.config.precision, plan.config.patch_size) == (precision, patch_size)
    assert (plan.device, plan.channels_last) == (hardware.device, channels_last)


@pytest.mark.parametrize("hardware", [SLOW, FAST, GPU, OLD_GPU])
def test_each_resolved_value_has_a_reason(hardware):
    plan = make_plan(TrainConfig(), ONE_SIZE, hardware)
    for field in ("precision", "patch_size", "channels_last", "patches_per_scan"):
        found = reason_for(plan, field)
        assert found.value == getattr(plan, field, getattr(plan.config, field, None))
        assert found.reason


def test_reason_for_the_precision_names_what_was_measured():
    assert "2.5 times" in reason_for(make_plan(TrainConfig(), ONE_SIZE, FAST), "precision").reason
    assert "0.4 times" in reason_for(make_plan(TrainConfig(), ONE_SIZE, SLOW), "precision").reason


def test_what_the_user_set_wins_and_needs_no_reason():
    plan = make_plan(TrainConfig(precision="fp32", patch_size=64), ONE_SIZE, GPU)
    assert (plan.config.precision, plan.config.patch_size) == ("fp32", 64)
    assert not {"precision", "patch_size"} & {reason.field for reason in plan.reasons}
    assert make_plan(TrainConfig(precision="bf16"), ONE_SIZE, SLOW).config.precision == "bf16"


def test_what_is_not_auto_stays():
    config = TrainConfig(epochs=3, lr=0.01, batch_size=2, model="unet", seed=7, pos_weight=2)
    plan = make_plan(config, ONE_SIZE, SLOW)
    assert plan.config == config.model_copy(
        update={
            "precision": "fp32",
            "patch_size": 256,
            "patch_growth": "off",
            "foreground_oversampling": 0.0,
            "loss": "dice_bce",
            "optimizer": "adam",
            "scheduler": "onecycle",
            "normalisation": "unit",
            "compile": "off",
            "activation_checkpointing": "off",
            "target_shape": None,
        }
    )


@pytest.mark.parametrize("hardware", [SLOW, FAST])
def test_ordinary_dataset_takes_what_the_defaults_were_measured_with(hardware):
    """Forty scans or more on a CPU: what a run computes is what every table of docs/training.md was made with."""
    config = make_plan(TrainConfig(), ORDINARY, hardware).config
    measured = {
        "model": "unet_transformer",
        "loss": "dice_bce",
        "pos_weight": None,
        "epochs": 50,
        "lr": 1e-3,
        "batch_size": 2,
        "optimizer": "adam",
        "scheduler": "onecycle",
        "augmentation": "standard",
        "normalisation": "unit",
        "foreground_oversampling": 0.0,
    }
    assert {name: getattr(config, name) for name in measured} == measured


@pytest.mark.parametrize("hardware", [SLOW, FAST, GPU])
def test_every_field_that_was_open_has_one_reason_with_its_value(hardware):
    opened = {"lr": 0.01, "augmentation": "auto", "batch_size": "auto"}
    config = TrainConfig(**opened)
    plan = make_plan(config, ORDINARY, hardware)
    on_trial = {"batch_size", "epochs", "compile"} if hardware is GPU else set()
    idle = {"class_weights", "target_shape"}  # the loss does not look at the ones, the scans are no volumes
    for field in {name for name in TrainConfig.model_fields if getattr(config, name) == "auto"} - on_trial - idle:
        assert reason_for(plan, field).value == getattr(plan.config, field)
        assert reason_for(plan, field).value != "auto"


def test_on_a_gpu_batch_size_and_epochs_wait_for_a_trial():
    plan = make_plan(TrainConfig(batch_size="auto"), ORDINARY, GPU)
    assert (plan.config.batch_size, plan.config.epochs) == ("auto", "auto")
    assert plan.decided("batch_size", 8, "tried").with_epochs().epochs == 114  # 11 steps an epoch of 85 scans


def test_fingerprint_says_how_the_scans_are_divided_and_how_large_they_are():
    facts = make_plan(TrainConfig(), manifest((64, 64), (32, 32), (64, 96), (64, 80)), SLOW).fingerprint
    assert (facts.scans, facts.training_scans, facts.validation_scans, facts.test_scans) == (4, 3, 1, 0)
    assert (facts.smallest, facts.median, facts.largest) == ((32, 32), (64, 80), (64, 96))
    assert (facts.channels, facts.classes, facts.foreground_fraction) == (1, 2, 0.1)


def test_plan_looks_at_the_scans_as_they_were_divided():
    splits = Splits(train=(0, 1), val=(2,), test=(), grouped_by_patient=False)
    plan = make_plan(TrainConfig(), ORDINARY, SLOW, splits=splits)
    assert plan.fingerprint.training_scans == 2
    assert plan.config.model == "unet"


@pytest.mark.parametrize(("memory_mib", "expected"), [(None, 256), (8000, 256), (1000, 128), (10, 64)])
def test_patches_shrink_where_the_memory_of_the_device_is_short(memory_mib, expected):
    plan = make_plan(TrainConfig(model="tiny_unet", batch_size=8), ORDINARY, replace(SLOW, memory_mib=memory_mib))
    assert plan.config.patch_size == expected
    assert ("would not fit" in reason_for(plan, "patch_size").reason) is (expected < 256)


def test_named_patch_stays_however_short_the_memory_is():
    config = TrainConfig(model="tiny_unet", patch_size=256)
    assert make_plan(config, ORDINARY, replace(SLOW, memory_mib=1)).config.patch_size == 256


def test_several_classes_take_the_softmax_loss_with_a_reason():
    plan = make_plan(TrainConfig(), manifest((64, 64), classes=4), SLOW)
    assert (plan.config.loss, plan.classes, plan.out_channels) == ("dice_ce", 4, 4)
    assert "4 classes" in reason_for(plan, "loss").reason


def test_binary_masks_keep_the_sigmoid_and_one_channel():
    plan = make_plan(TrainConfig(), ONE_SIZE, SLOW)
    assert (plan.config.loss, plan.classes, plan.out_channels) == ("dice_bce", 2, 1)
    assert "binary masks" in reason_for(plan, "loss").reason


def test_channels_are_those_of_the_scans():
    assert make_plan(TrainConfig(), manifest((64, 64), channels=3), SLOW).channels == 3


@pytest.mark.parametrize(
    ("shapes", "patch_size", "expected"),
    [
        ([(100, 70)], 192, (112, 80)),
        ([(304, 304)], 192, (192, 192)),
        ([(304, 304)], 100, (112, 112)),
        ([(64, 40), (48, 90)], 192, (64, 96)),
        ([(64, 400)], 128, (64, 128)),
        ([(16, 16)], 32, (32, 32)),
    ],
)
def test_patch_is_as_large_as_the_largest_scan_up_to_the_patch_size_in_multiples_of_16(shapes, patch_size, expected):
    plan = make_plan(TrainConfig(patch_size=patch_size), manifest(*shapes), SLOW)
    assert plan.patch_shape == expected


@pytest.mark.parametrize(
    ("shapes", "patch_size", "expected"),
    [
        ([(304, 304)], 512, 1),
        ([(192, 192)], 192, 1),
        ([(768, 768)], 192, 4),  # 16 patches' area, each stands for 4
        ([(1024, 1024)], 256, 4),
        ([(2048, 2048)], 256, 16),
        ([(768, 768), (192, 192)], 192, 2),  # the mean scan has 8.5 patches' area
    ],
)
def test_large_scans_give_several_patches(shapes, patch_size, expected):
    plan = make_plan(TrainConfig(patch_size=patch_size), manifest(*shapes), SLOW)
    assert plan.patches_per_scan == expected
    assert reason_for(plan, "patches_per_scan").value == expected


def test_resuming_with_more_epochs_and_another_rate_keeps_what_was_resolved():
    plan = make_plan(TrainConfig(epochs=5), manifest((300, 300), classes=3), FAST)
    resumed = plan.with_config(TrainConfig(epochs=9, lr=0.001))
    assert (resumed.config.epochs, resumed.config.lr) == (9, 0.001)
    assert (resumed.config.precision, resumed.config.patch_size, resumed.config.loss) == ("bf16", 512, "dice_ce")
    assert resumed == plan.model_copy(update={"config": resumed.config})


@pytest.mark.parametrize("hardware", [SLOW, FAST])
def test_fp16_is_refused_on_a_cpu_with_what_to_choose(hardware):
    with pytest.raises(InvalidConfig, match="precision=fp16 needs a CUDA device; on cpu use bf16, fp32 or auto"):
        make_plan(TrainConfig(precision="fp16"), ONE_SIZE, hardware)


def test_fp16_on_a_gpu_takes_whole_scans_and_channels_innermost():
    plan = make_plan(TrainConfig(precision="fp16"), ONE_SIZE, OLD_GPU)
    assert (plan.config.precision, plan.config.patch_size, plan.channels_last) == ("fp16", 512, True)
    assert reason_for(plan, "channels_last").reason == "the faster memory layout with fp16"


@pytest.mark.parametrize(
    ("options", "field", "belongs_to"),
    [
        ({"momentum": 0.5}, "momentum", "sgd"),
        ({"nesterov": True}, "nesterov", "sgd"),
        ({"scheduler": "poly", "step_size": 3}, "step_size", "step"),
        ({"gamma": 0.5}, "gamma", "step, plateau, exponential"),
        ({"power": 2}, "power", "poly"),
        ({"plateau_patience": 3}, "plateau_patience", "plateau"),
    ],
)
def test_option_that_the_optimizer_or_schedule_does_not_look_at_is_named(options, field, belongs_to):
    found = reason_for(make_plan(TrainConfig(**options), ONE_SIZE, SLOW), field)
    assert found.reason.startswith("this has no effect on ")
    assert found.reason.endswith(f"it belongs to {belongs_to}")


def test_share_of_validation_scans_has_no_effect_on_folds_and_that_is_said():
    found = reason_for(make_plan(TrainConfig(folds=5, val_fraction=0.3), ONE_SIZE, SLOW), "val_fraction")
    assert found.value == 0.3
    assert found.reason.startswith("this has no effect with folds=5")


@pytest.mark.parametrize("options", [{"val_fraction": 0.3}, {"folds": 5}])
def test_share_of_validation_scans_needs_no_reason_without_folds_or_where_it_was_not_set(options):
    plan = make_plan(TrainConfig(**options), ONE_SIZE, SLOW)
    assert "val_fraction" not in {reason.field for reason in plan.reasons}


def test_option_that_is_looked_at_needs_no_reason():
    plan = make_plan(TrainConfig(optimizer="sgd", momentum=0.5, scheduler="plateau", gamma=0.5), ONE_SIZE, SLOW)
    assert not {"momentum", "gamma"} & {reason.field for reason in plan.reasons}


def test_step_sees_the_batches_that_are_accumulated():
    plan = make_plan(TrainConfig(batch_size=3, accumulation_steps=4), ONE_SIZE, SLOW)
    assert (plan.batch_size, plan.scans_per_step) == (3, 12)


def test_decision_that_comes_later_stands_in_the_config_with_its_reason():
    plan = make_plan(TrainConfig(lr="auto"), ONE_SIZE, SLOW).decided("lr", 0.02, "it was measured")
    assert plan.config.lr == 0.02
    assert reason_for(plan, "lr").reason == "it was measured"


def test_resuming_keeps_the_rate_and_the_batch_size_that_were_found():
    config = TrainConfig(lr="auto", batch_size="auto")
    plan = make_plan(config, ONE_SIZE, SLOW).decided("lr", 0.02, "found").decided("batch_size", 8, "found")
    resumed = plan.with_config(config.model_copy(update={"epochs": 9}))
    assert (resumed.config.epochs, resumed.config.lr, resumed.config.batch_size) == (9, 0.02, 8)
    assert plan.with_config(config.model_copy(update={"lr": 0.5})).config.lr == 0.5


def test_on_another_device_a_run_keeps_what_was_found_for_its_data():
    config = TrainConfig(lr="auto")
    earlier = make_plan(config, ONE_SIZE, SLOW).decided("lr", 0.02, "found").decided("epochs", 77, "found")
    kept = earlier.found_for(config)
    assert {name: kept[name] for name in ("lr", "epochs", "model")} == {"lr": 0.02, "epochs": 77, "model": "unet"}
    assert not {"precision", "patch_size", "patch_growth", "batch_size", "foreground_oversampling"} & set(kept)
    moved = make_plan(config.model_copy(update=kept), ORDINARY, GPU).with_reasons_of(earlier, kept)
    assert (moved.config.lr, moved.config.epochs, moved.config.model) == (0.02, 77, "unet")
    assert reason_for(moved, "lr").reason == "found"
    assert reason_for(moved, "patch_size").value == 512


def test_what_an_earlier_attempt_left_open_or_was_given_is_not_kept():
    earlier = make_plan(TrainConfig(lr="auto"), ONE_SIZE, SLOW)
    assert "lr" not in earlier.found_for(TrainConfig(lr="auto"))
    assert "lr" not in earlier.decided("lr", 0.02, "found").found_for(TrainConfig(lr=0.3))


def test_reason_for_what_was_changed_on_resuming_is_gone():
    plan = make_plan(TrainConfig(), ORDINARY, SLOW)
    resumed = plan.with_config(TrainConfig(epochs=9))
    assert "epochs" not in {reason.field for reason in resumed.reasons}
    assert len(resumed.reasons) == len(plan.reasons) - 1


def test_plan_of_an_earlier_version_is_still_read():
    old = make_plan(TrainConfig(), ORDINARY, SLOW).model_dump(mode="json")
    del old["fingerprint"], old["estimate"]
    assert Plan.model_validate(old).fingerprint is None


def test_plan_survives_the_way_through_json():
    plan = make_plan(TrainConfig(), manifest((300, 200), classes=3), FAST)
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


# --- compiling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hardware", "epochs", "expected", "why"),
    [(SLOW, 10_000, "off", "on a CPU"), (GPU, 100, "off", "too few"), (GPU, 10_000, "on", "earn back")],
)
def test_network_is_compiled_only_where_a_long_run_on_a_gpu_pays_for_it(hardware, epochs, expected, why):
    plan = make_plan(TrainConfig(epochs=epochs), manifest(*[(304, 304)] * 10), hardware)
    assert plan.config.compile == expected
    assert why in reason_for(plan, "compile").reason


@pytest.mark.parametrize("wanted", ["on", "off"])
def test_compiling_that_was_asked_for_or_not_wanted_needs_no_reason(wanted):
    plan = make_plan(TrainConfig(compile=wanted), ONE_SIZE, SLOW)
    assert plan.config.compile == wanted
    assert "compile" not in {reason.field for reason in plan.reasons}
