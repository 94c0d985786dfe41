from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.store import DatasetStore
from octa_backend.inference.distribution import features_of
from octa_backend.inference.distribution import summarise as summarise_features
from octa_backend.service import experiment
from octa_backend.service.experiment import (
    Source,
    design,
    dice_per_scan,
    keep_augmentation_sheet,
    make_card,
    scan_statistics,
    sketch,
    summarise,
)
from octa_backend.training.checkpoint import Best
from octa_backend.training.class_balance import class_pixels, foreground_weight
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation_report import ScanResult
from octa_backend.training.fingerprint import Greys
from octa_backend.training.plan import make_plan
from octa_backend.training.precision import Hardware
from octa_backend.training.trainer import Outcome
from tests.data.zips import dataset, take_in
from tests.reports import metrics, scan
from tests.tiny import synthetic_pairs, write_store

HARDWARE = Hardware("cpu", 0.0, False)


@pytest.fixture
def store(tmp_path):
    take_in(tmp_path, dataset())
    return DatasetStore(tmp_path / "out")


def scored(name: str, value: float | None) -> ScanResult:
    """A scan whose scores are all `value`."""
    return scan(name, metrics(value))


def test_a_plan_of_an_earlier_attempt_is_kept_without_measuring_again(store):
    earlier = make_plan(TrainConfig(epochs=3), store.manifest, HARDWARE)
    run = design(store, TrainConfig(epochs=5), "cpu", earlier)
    assert run.plan == earlier.with_config(TrainConfig(epochs=5)).with_estimate()
    assert run.plan.config.precision == earlier.config.precision == "fp32"


def test_what_only_a_trial_can_tell_is_resolved_before_the_run_and_kept(store):
    config = TrainConfig(model="tiny_unet", batch_size="auto", lr=0.01)
    first = design(store, config, "cpu", make_plan(config, store.manifest, HARDWARE))
    assert first.plan.config.batch_size == 2
    assert [reason.value for reason in first.plan.reasons if reason.field == "batch_size"] == [2]
    assert design(store, config, "cpu", first.plan).plan == first.plan


def test_a_run_that_is_stopped_while_its_rate_is_searched_for_leaves_it_open(store):
    config = TrainConfig(model="tiny_unet", lr="auto")
    run = design(store, config, "cpu", make_plan(config, store.manifest, HARDWARE), lambda: True)
    assert run.plan.config.lr == "auto"


def test_weights_that_are_left_open_come_from_the_training_scans_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: HARDWARE)
    sparse = [(image, mask * (np.arange(mask.size).reshape(mask.shape) % 9 == 0)) for image, mask in synthetic_pairs(4)]
    store = write_store(tmp_path / "store", [(image, mask.astype(np.uint8)) for image, mask in sparse])
    run = design(store, TrainConfig(model="tiny_unet"), "cpu", None)
    assert run.plan.config.pos_weight == foreground_weight(class_pixels(store, run.splits.train))
    assert run.plan.config.pos_weight != foreground_weight(class_pixels(store, range(4)))


def test_all_folds_have_the_network_and_the_normalisation_of_the_first(tmp_path, monkeypatch):
    """Of 62 scans in five folds 49 or 50 train, and 50 are enough for another network."""
    monkeypatch.setattr(experiment, "probe", lambda device: HARDWARE)
    store = write_store(tmp_path / "store", synthetic_pairs(62))
    seen_first = sketch(store, TrainConfig(folds=5), "cpu", None, 1).splits.train

    def measured(store, scans, ignore_index):
        return Greys(white=0.3 if scans == seen_first else 0.9, spread=0)

    monkeypatch.setattr(experiment, "measure_greys", measured)
    runs = [sketch(store, TrainConfig(folds=5), "cpu", None, fold) for fold in range(1, 6)]
    assert {len(run.splits.train) for run in runs} == {49, 50}
    assert len({run.plan.config.model for run in runs}) == 1
    assert {run.plan.config.normalisation for run in runs} == {"percentile"}
    assert len({one.reason for run in runs for one in run.plan.reasons if one.field == "normalisation"}) == 1


def test_what_the_network_will_see_is_drawn_once(store, tmp_path):
    run = design(store, TrainConfig(), "cpu", make_plan(TrainConfig(), store.manifest, HARDWARE))
    picture = tmp_path / "job" / "augmentation.png"
    keep_augmentation_sheet(run, picture.parent)
    with Image.open(picture) as drawn:
        assert (drawn.format, drawn.mode) == ("PNG", "RGB")
    picture.write_bytes(b"of the first attempt")
    keep_augmentation_sheet(run, picture.parent)
    assert picture.read_bytes() == b"of the first attempt"


def test_nothing_is_drawn_where_nothing_is_augmented(store, tmp_path):
    config = TrainConfig(augmentation="none")
    run = design(store, config, "cpu", make_plan(config, store.manifest, HARDWARE))
    keep_augmentation_sheet(run, tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_the_same_seed_divides_the_scans_the_same_way_and_all_are_used(store):
    earlier = make_plan(TrainConfig(), store.manifest, HARDWARE)
    one, again = (design(store, TrainConfig(seed=7), "cpu", earlier).splits for _ in range(2))
    assert one == again
    assert sorted(one.train + one.val) == [0, 1, 2]


def test_a_run_describes_itself_and_warns_of_few_validation_scans(store):
    run = design(store, TrainConfig(), "cpu", make_plan(TrainConfig(), store.manifest, HARDWARE))
    assert run.describe() == "unet on cpu in fp32; scans: 2 train, 1 val, 0 test, divided not by patient"
    assert [finding.code for finding in run.findings()] == ["few_validation_scans"]


def test_a_run_tells_of_masks_that_lie_beside_what_they_show(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: HARDWARE)
    pairs = [(image, np.roll(mask, 1, 1)) for image, mask in synthetic_pairs(8, 64)]
    run = sketch(write_store(tmp_path / "store", pairs), TrainConfig(), "cpu", None)
    (found,) = [finding for finding in run.findings() if finding.code == "masks_beside"]
    assert found.evidence["columns"] == pytest.approx(1, abs=0.2)
    assert (found.evidence["rows"], found.evidence["scans"]) == (pytest.approx(0, abs=0.2), len(run.splits.train))
    assert run.plan.config.augmentation_options.flip_x_probability == 0


def test_test_scores_are_summed_up_by_mean_and_spread():
    found = summarise([scored("a", 0.6), scored("b", 0.8)])
    assert found["scans"] == 2
    for metric in ("dice", "iou", "precision", "recall"):
        assert math.isclose(found[metric], 0.7)
        assert math.isclose(found[f"{metric}_std"], 0.1)
    assert summarise([]) is None


def test_test_scans_without_a_pixel_that_counts_are_left_out():
    blank = scored("blank", None)
    assert summarise([scored("a", 0.6), blank]) == summarise([scored("a", 0.6)])
    assert dice_per_scan([scored("a", 0.6), blank]) == {"a": 0.6}
    assert summarise([blank]) is None


def test_a_card_says_what_is_to_be_known_of_a_model(store):
    run = design(store, TrainConfig(), "cpu", make_plan(TrainConfig(), store.manifest, HARDWARE))
    outcome = Outcome(finished=True, best=Best(4, 0.81))
    card = make_card(run, Source("f", "scans.zip", "f" * 64), outcome, [scored("9", 0.5)])
    assert card["dataset"] == {"file_id": "f", "name": "scans.zip", "sha256": "f" * 64}
    assert (card["network"], card["channels"], card["classes"]) == ("unet", 1, 2)
    assert card["best"] == {"epoch": 4, "val_dice": 0.81}
    assert card["test_dice_per_scan"] == {"9": 0.5}
    assert sorted(card["splits"]["train"] + card["splits"]["val"]) == ["1", "2", "3"]
    assert make_card(run, Source("f", "n", "s"), Outcome(False, None), [])["best"] is None


@pytest.mark.parametrize("normalisation", ["unit", "zscore"])
def test_card_says_how_scans_are_normalised(store, normalisation):
    config = TrainConfig(normalisation=normalisation)
    run = design(store, config, "cpu", make_plan(config, store.manifest, HARDWARE))
    card = make_card(run, Source("f", "n", "s"), Outcome(False, None), [])
    assert card["normalisation"] == normalisation


def test_a_card_holds_what_a_prediction_needs_of_the_dataset_and_of_its_training_scans_alone(store):
    run = design(store, TrainConfig(), "cpu", make_plan(TrainConfig(), store.manifest, HARDWARE))
    tuned = {"threshold": 0.4, "dice": 0.8, "usual_dice": 0.7, "scans": 1}
    card = make_card(run, Source("f", "n", "s"), Outcome(True, Best(1, 0.5)), [], tuned=tuned)
    assert card["mask_values"] == list(store.manifest.mask_values)
    assert card["tuned_threshold"] == tuned
    assert card["scan_statistics"] == summarise_features(features_of(store.image(index)) for index in run.splits.train)
    assert card["scan_statistics"]["scans"] == len(run.splits.train) < len(store)
    assert make_card(run, Source("f", "n", "s"), Outcome(False, None), [])["tuned_threshold"] is None


def test_of_many_training_scans_some_are_looked_at(store, monkeypatch):
    monkeypatch.setattr(experiment, "MOST_SCANS_KNOWN", 2)
    assert scan_statistics(store, range(3), "unit")["scans"] == 2
