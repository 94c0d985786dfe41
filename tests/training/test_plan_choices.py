from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.diagnosis.content import FEW_SCANS
from octa_backend.models import registry
from octa_backend.training.config import TrainConfig
from octa_backend.training.fingerprint import Greys
from octa_backend.training.grey_levels import measure_greys
from octa_backend.training.plan import make_plan
from octa_backend.training.plan_choices import choose_epochs
from octa_backend.training.precision import Hardware
from tests.tiny import write_store

CPU = Hardware("cpu", bf16_speedup=0.0, channels_last=False)


def plan(training=FEW_SCANS, spatial_dims=2, greys=None, **options):
    """The plan for a dataset with so many training scans, and one to validate."""
    shape = (64,) * spatial_dims
    splits = ["train"] * training + ["val"]
    entries = tuple(ScanEntry(f"s{i}", None, split, shape, "uint8", 0, 0) for i, split in enumerate(splits))
    manifest = Manifest(spatial_dims, 1, 2, (0, 1), 0.1, entries)
    return make_plan(TrainConfig(**options), manifest, CPU, measure_greys=greys and (lambda: greys))


def found(made, field):
    """A field's value, and the one reason for it."""
    (reason,) = [reason for reason in made.reasons if reason.field == field]
    assert reason.value == getattr(made.config, field)
    return reason.value, reason.reason


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("training", "expected"), [(FEW_SCANS - 1, "unet"), (FEW_SCANS, "unet_transformer")])
def test_network_is_the_smaller_one_below_the_number_of_scans_that_the_checks_call_few(training, expected):
    model, why = found(plan(training), "model")
    assert model == expected
    assert str(training) in why
    assert "unet_transformer" in why or "the default" in why


def test_volumes_take_a_network_that_has_a_form_for_them():
    model, why = found(plan(spatial_dims=3), "model")
    registry.check_form(model, spatial_dims=3)
    assert "volumes" in why


def test_named_network_wins_over_the_data():
    made = plan(training=3, model="unet_transformer")
    assert made.config.model == "unet_transformer"
    assert "model" not in {reason.field for reason in made.reasons}


# --- optimizer, schedule, augmentation ------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "expected"), [({}, "adam"), ({"weight_decay": 0.01}, "adamw")])
def test_optimizer_follows_the_weight_decay(options, expected):
    assert found(plan(**options), "optimizer")[0] == expected


@pytest.mark.parametrize(("options", "expected"), [({}, "onecycle"), ({"optimizer": "sgd"}, "poly")])
def test_schedule_follows_the_optimizer(options, expected):
    assert found(plan(**options), "scheduler")[0] == expected


@pytest.mark.parametrize(("training", "expected"), [(FEW_SCANS - 1, "strong"), (FEW_SCANS, "standard")])
def test_augmentation_is_strong_for_few_scans_where_it_is_left_open(training, expected):
    made = plan(training, augmentation="auto")
    assert found(made, "augmentation")[0] == expected
    assert made.config.augmentation_options == TrainConfig(augmentation=expected).augmentation_options


# --- epochs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, 200),  # 1250 steps would take 1250 epochs
        (10, 125),  # 1250 / 10
        (24, 53),  # 1250 / 24, rounded up
        (25, 50),
        (500, 50),
        (501, 49),  # 25000 / 501, rounded down
        (9000, 10),  # 25000 steps would be over in 3 epochs
    ],
)
def test_epochs_are_50_unless_that_makes_too_few_or_too_many_steps(steps, expected):
    epochs, why = choose_epochs(steps, warmup_epochs=0)
    assert epochs == expected
    assert f"{steps} step" in why


def test_epochs_follow_batch_size_and_patches():
    assert found(plan(100, batch_size=2), "epochs")[0] == 50
    assert found(plan(100, batch_size=10), "epochs")[0] == 125
    assert found(plan(100, batch_size=2, accumulation_steps=5), "epochs")[0] == 125


def test_epochs_outlast_the_warm_up():
    assert choose_epochs(25, warmup_epochs=49)[0] == 50
    epochs, why = choose_epochs(25, warmup_epochs=60)
    assert epochs == 120
    assert "warmup_epochs=60" in why


# --- normalisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("white", "spread", "expected"),
    [(0.9, 0.05, "unit"), (0.4, 0.05, "percentile"), (0.4, 0.3, "percentile"), (0.9, 0.3, "zscore")],
)
def test_normalisation_follows_the_greys_where_it_is_left_open(white, spread, expected):
    made = plan(normalisation="auto", greys=Greys(white=white, spread=spread))
    normalisation, why = found(made, "normalisation")
    assert (normalisation, made.normalisation) == (expected, expected)
    assert f"{spread if expected == 'zscore' else white:.2f}" in why


@pytest.mark.parametrize(("white", "spread", "expected"), [(0.04, 0.05, "unit"), (0, 0, "unit"), (0.04, 0.3, "zscore")])
def test_scans_are_not_stretched_to_where_what_is_looked_for_begins(white, spread, expected):
    made = plan(normalisation="auto", greys=Greys(white=white, spread=spread, cut_off=0.91))
    normalisation, why = found(made, "normalisation")
    assert normalisation == expected
    assert "91%" in why if expected == "unit" else "0.30" in why
    assert found(plan(greys=Greys(white=0, spread=0)), "normalisation")[0] == "unit"


def sparse_pairs(noise: int, share: float, bright: int = 200, halo: int = 0, channels: int = 1):
    """Bright squares of 8 x 8 in the last channel, so many that they have this share; masks are larger by a halo."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        image = rng.integers(0, noise + 1, (channels, 128, 128)).astype(np.uint8)
        mask = np.zeros((128, 128), np.uint8)
        for place in rng.choice(64, round(share * 256), replace=False):
            row, column = 4 + 16 * (place // 8), 4 + 16 * (place % 8)
            image[-1, row : row + 8, column : column + 8] = rng.integers(bright - 40, bright + 40, (8, 8))
            mask[row - halo : row + 8 + halo, column - halo : column + 8 + halo] = 1
        yield image, mask


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"noise": 0, "share": 0.008}, "unit"),
        ({"noise": 10, "share": 0.008}, "unit"),
        ({"noise": 10, "share": 0.008, "halo": 3}, "unit"),
        ({"noise": 2, "share": 0.02, "channels": 3}, "unit"),
        ({"noise": 20, "share": 0.1, "bright": 80}, "percentile"),
        ({"noise": 20, "share": 0.03, "bright": 80}, "percentile"),
    ],
)
def test_dark_scans_are_stretched_unless_what_is_looked_for_is_sparse(tmp_path, options, expected):
    store = write_store(tmp_path, list(sparse_pairs(**options)))
    greys = measure_greys(store, range(3))
    normalisation, why = found(plan(greys=greys), "normalisation")
    assert normalisation == expected
    assert "among the brightest hundredth" in why or expected == "percentile"
    contrast = [normalise(to_unit(store.image(i)), normalisation)[-1][store.mask(i) > 0].mean() for i in range(3)]
    assert min(contrast) > 0.1


def test_a_few_hot_pixels_do_not_keep_dark_scans_from_being_stretched(tmp_path):
    pairs = list(sparse_pairs(noise=20, share=0.1, bright=80))
    for image, _ in pairs:
        image[0].flat[::499] = 255
    greys = measure_greys(write_store(tmp_path, pairs), range(3))
    assert plan(greys=greys).normalisation == "percentile"


def test_what_does_not_count_is_not_looked_for(tmp_path):
    pairs = [(image, 2 * mask) for image, mask in sparse_pairs(noise=10, share=0.008)]
    for _, mask in pairs:
        mask[mask == 0] = 1
    store = write_store(tmp_path, pairs, mask_values=(0, 1, 2))
    assert measure_greys(store, range(3), 2).cut_off < 0.5 < measure_greys(store, range(3), 1).cut_off


def test_normalisation_left_open_without_scans_at_hand_is_unit_and_says_so():
    normalisation, why = found(plan(), "normalisation")
    assert normalisation == "unit"
    assert "not at hand" in why


def test_greys_are_those_of_the_scans(tmp_path):
    dark, bright = (np.full((1, 4, 4), value, np.uint8) for value in (51, 255))
    store = write_store(tmp_path, [(image, np.zeros((4, 4), np.uint8)) for image in (dark, dark, bright)])
    alike, unlike = measure_greys(store, (0, 1)), measure_greys(store, (1, 2))
    assert (alike.white, alike.spread) == pytest.approx((0.2, 0))
    assert (unlike.white, unlike.spread) == pytest.approx((0.6, 0.4))


def test_greys_of_many_scans_are_those_of_some_of_them(tmp_path):
    pairs = [(np.full((1, 4, 4), 255 * (i % 3 == 0), np.uint8), np.zeros((4, 4), np.uint8)) for i in range(150)]
    assert measure_greys(write_store(tmp_path, pairs), range(150)).white == 1.0  # every third one is bright


def test_volumes_are_normalised_channel_by_channel_unless_it_was_set():
    normalisation, why = found(plan(spatial_dims=3), "normalisation")
    assert normalisation == "zscore_nonzero"
    assert "volumes" in why
    assert plan(spatial_dims=3, normalisation="unit").normalisation == "unit"
