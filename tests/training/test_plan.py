from __future__ import annotations

import pytest

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
        update={"precision": "fp32", "patch_size": 256, "foreground_oversampling": 0.0, "compile": "off"}
    )


def test_several_classes_take_the_softmax_loss_with_a_reason():
    plan = make_plan(TrainConfig(), manifest((64, 64), classes=4), SLOW)
    assert (plan.config.loss, plan.classes, plan.out_channels) == ("dice_ce", 4, 4)
    assert "4 classes" in reason_for(plan, "loss").reason


def test_binary_masks_keep_the_sigmoid_and_one_channel():
    plan = make_plan(TrainConfig(), ONE_SIZE, SLOW)
    assert (plan.config.loss, plan.classes, plan.out_channels) == ("dice_bce", 2, 1)
    assert "loss" not in {reason.field for reason in plan.reasons}


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


def test_plan_for_another_device_takes_the_rate_that_an_earlier_attempt_found():
    found = make_plan(TrainConfig(lr="auto"), ONE_SIZE, SLOW).decided("lr", 0.02, "found")
    assert make_plan(TrainConfig(lr="auto"), ONE_SIZE, GPU).with_rate_of(found).config.lr == 0.02
    assert make_plan(TrainConfig(lr=0.3), ONE_SIZE, GPU).with_rate_of(found).config.lr == 0.3
    still_open = make_plan(TrainConfig(lr="auto"), ONE_SIZE, SLOW)
    assert make_plan(TrainConfig(lr="auto"), ONE_SIZE, GPU).with_rate_of(still_open).config.lr == "auto"


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
