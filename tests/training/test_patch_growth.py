from __future__ import annotations

from itertools import pairwise

import pytest

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.training import trainer
from octa_backend.training.batches import training_batches
from octa_backend.training.config import TrainConfig
from octa_backend.training.patch_growth import PatchGrowth
from octa_backend.training.plan import make_plan
from octa_backend.training.precision import Hardware
from tests.tiny import synthetic_pairs, training_data, write_store
from tests.training.runs import Stopper, assert_same, epochs, numbers, train

SLOW = Hardware("cpu", bf16_speedup=0.4, channels_last=False)
FAST = Hardware("cpu", bf16_speedup=2.5, channels_last=False)
GPU = Hardware("cuda:0", bf16_speedup=2.0, channels_last=True)


def plan_for(shape=(304, 304), hardware=SLOW, fraction=0.1, **options):
    entries = tuple(ScanEntry(f"s{i}", None, None, shape, "uint8", 0, 0) for i in range(100))
    manifest = Manifest(len(shape), 1, 2, (0, 1), fraction, entries)
    return make_plan(TrainConfig(**options), manifest, hardware)


def growth_of(plan):
    """What was decided about growth, and why."""
    (found,) = [reason for reason in plan.reasons if reason.field == "patch_growth"]
    assert found.value == plan.config.patch_growth
    return found.value, found.reason


def sides(growth):
    return [growth.shape_in(epoch)[0] for epoch in range(1, growth.epochs + 1)]


# --- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [256]),
        (2, [128, 256]),
        (3, [128, 256, 256]),
        (8, [128, 192] + [256] * 6),
        (16, [128] * 2 + [192] * 2 + [256] * 12),
        (50, [128] * 5 + [192] * 5 + [256] * 40),
    ],
)
def test_a_tenth_of_the_run_has_half_the_sides_and_a_tenth_three_quarters(count, expected):
    assert sides(PatchGrowth.to((256, 256), (), count)) == expected


@pytest.mark.parametrize("count", range(1, 60))
def test_patches_never_shrink_and_the_last_epoch_has_whole_ones(count):
    found = sides(PatchGrowth.to((256, 256), (), count))
    assert all(one <= other for one, other in pairwise(found))
    assert found[-1] == 256


def test_sides_are_multiples_that_four_halvings_leave_two_pixels_of():
    assert PatchGrowth.to((48, 320), (), 9).stages() == [(32, 160), (48, 240), (48, 320)]
    assert PatchGrowth.to((32, 32), (), 9).stages() == [(32, 32)]


def test_parts_of_volumes_are_multiples_of_what_the_network_halves_them_by():
    assert PatchGrowth.to((40, 56, 40), (1, 1, 1), 9).stages() == [(24, 32, 24), (32, 48, 32), (40, 56, 40)]
    assert PatchGrowth.to((8, 64, 64), (5, 1, 1), 9).stages() == [(4, 32, 32), (6, 48, 48), (8, 64, 64)]


def test_mean_share_counts_the_pixels_of_every_epoch():
    assert PatchGrowth.to((256, 256), (), 10).mean_share() == pytest.approx((1 / 4 + 9 / 16 + 8) / 10)
    assert PatchGrowth.none((256, 256), 3).mean_share() == 1


def test_work_that_is_left_is_counted_in_epochs_of_the_present_size():
    growth = PatchGrowth.to((256, 256), (), 10)
    assert growth.work_after(1) == pytest.approx(9 / 4 + 8 * 4)
    assert growth.work_after(2) == pytest.approx(8 * 16 / 9)
    assert growth.work_after(9) == 1
    assert growth.work_after(10) == 0


def test_share_that_is_done_counts_pixels_not_epochs():
    growth = PatchGrowth.to((256, 256), (), 10)
    assert growth.share_done(1, 0.5) == pytest.approx((1 / 8) / (1 / 4 + 9 / 16 + 8))
    assert growth.share_done(2, 1.0) == pytest.approx((1 / 4 + 9 / 16) / (1 / 4 + 9 / 16 + 8))
    assert growth.share_done(10, 1.0) == 1
    assert PatchGrowth.none((256, 256), 4).share_done(1, 1.0) == 0.25


# --- the plan -------------------------------------------------------------------------------------------------------


def test_patches_of_pictures_grow_on_a_slow_device():
    value, reason = growth_of(plan_for())
    assert value == "on"
    assert "patches of 128x128 and 192x192 for a tenth of the epochs each, one at least, then of 256x256" in reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hardware": GPU}, "not measured on a fast device"),
        ({"hardware": FAST}, "not measured on a fast device"),
        ({"shape": (64, 304, 304)}, "not measured on volumes"),
        ({"patch_size": 96}, "patches of 48x48"),
        ({"patch_size": 32}, "patches of 32x32 pixels cannot be halved"),
        ({"epochs": 5}, "a run of 5 epochs is too short"),
    ],
)
def test_patches_stay_as_they_are_where_it_was_not_measured_or_does_not_serve(options, reason):
    value, why = growth_of(plan_for(**options))
    assert value == "off"
    assert reason in why


def test_what_the_user_set_wins_and_is_told_in_sizes():
    assert plan_for(patch_growth="off").in_epoch(1).patch_shape == (256, 256)
    set_on = plan_for(hardware=GPU, patch_growth="on", epochs=10)
    assert [set_on.in_epoch(epoch).patch_shape for epoch in (1, 2, 10)] == [(160, 160), (240, 240), (304, 304)]
    assert "160x160 and 240x240 for a tenth of the epochs each, one at least, then of 304x304" in growth_of(set_on)[1]


def test_shortest_run_whose_patches_grow_has_all_sizes():
    plan = plan_for(epochs=6)
    assert plan.config.patch_growth == "on"
    assert sides(plan.growth) == [128, 192, 256, 256, 256, 256]


def test_growth_that_was_asked_for_but_has_no_effect_is_named():
    assert "the only one" in growth_of(plan_for(epochs=1, patch_growth="on"))[1]
    assert "has no effect: patches of 32x32" in growth_of(plan_for(patch_size=32, patch_growth="on"))[1]


@pytest.mark.parametrize(("growth", "share"), [("on", 0.33), ("off", 0.0)])
def test_small_patches_of_scans_with_little_foreground_are_cut_around_it(growth, share):
    assert plan_for((256, 256), fraction=0.049, patch_growth=growth).config.foreground_oversampling == share


# --- training -------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    return training_data(write_store(tmp_path / "data", synthetic_pairs(5, size=64)))


GROWING = {"model": "tiny_unet", "patch_growth": "on", "epochs": 10, "patch_size": 64}


def test_every_epoch_trains_on_patches_of_its_size(tmp_path, data, monkeypatch):
    seen = []

    def spy(*given):
        for batch in training_batches(*given):
            seen.append((batch.image.shape[2:], batch.mask.shape[1:]))
            yield batch

    monkeypatch.setattr(trainer, "training_batches", spy)
    train(tmp_path / "run", data, **GROWING)
    expected = [(side, side) for side in (32, 48, *[64] * 8) for _ in range(2)]
    assert [tuple(image) for image, _ in seen] == [tuple(mask) for _, mask in seen] == expected


def test_run_that_was_stopped_goes_on_with_the_patches_of_its_epoch(tmp_path, data):
    whole, _ = train(tmp_path / "whole", data, **GROWING, deterministic=True)
    stopper = Stopper(lambda event: bool(epochs([event])) and event.epoch == 1)
    train(tmp_path / "parts", data, **GROWING, deterministic=True, emit=stopper.emit, should_stop=stopper.should_stop)
    rest, _ = train(tmp_path / "parts", data, **GROWING, deterministic=True)
    assert_same(rest, whole[whole.index(epochs(whole)[0]) :])
    assert numbers(epochs(rest)[-1]) == numbers(epochs(whole)[-1])
