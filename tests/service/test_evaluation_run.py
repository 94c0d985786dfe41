from __future__ import annotations

import importlib.metadata
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from octa_backend.data.splits import Splits
from octa_backend.data.store import DatasetStore, StoreWriter
from octa_backend.errors import IncompatibleCheckpoint, ModelDoesNotFit, OctaError
from octa_backend.service.evaluation_data import EvaluatedZip, divide
from octa_backend.service.evaluation_model import decide, open_model
from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation
from octa_backend.training.batches import TrainingData
from octa_backend.training.evaluation import evaluate
from octa_backend.training.losses import make_loss
from tests.published import publish, read_card
from tests.reports import epoch
from tests.tiny import SmallUNet, one_thread, synthetic_pairs, tiny_networks, write_store

OWN, OTHER = "a" * 64, "b" * 64
# s0, s1 train; s2, s3 validate; s4, s5 test
SPLITS = Splits((0, 1), (2, 3), (4, 5), grouped_by_patient=False)


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), synthetic_pairs(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, store):
    return publish(tmp_path_factory.mktemp("models") / "bright", store, OWN, SPLITS)


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder, "cpu")


def design(model, store, sha256=OWN, **options):
    return design_evaluation(model, EvaluatedZip(store, "scans.zip", sha256), EvaluationOptions(**options))


def run(model, store, sha256=OWN, **options):
    return design(model, store, sha256, **options).run(lambda name: None).report


@pytest.mark.parametrize("normalisation", ["unit", "zscore", "percentile"])
def test_the_scores_are_those_of_the_trainings_own_evaluation(store, tmp_path, normalisation):
    model = open_model(publish(tmp_path / "m", store, OWN, SPLITS, normalisation=normalisation), "cpu")
    data = TrainingData(store, *(getattr(SPLITS, name) for name in ("train", "val", "test")))
    scored = evaluate(model.networks[0], data, model.plan, make_loss(model.plan.config), SPLITS.test, lambda: False)
    found = run(model, store)
    assert [scan.name for scan in found.scans] == ["s4", "s5"]
    for ours, theirs in zip(found.scans, scored, strict=True):
        for name in ("dice", "iou", "precision", "recall"):
            assert getattr(ours.metrics.overall, name) == pytest.approx(getattr(theirs.score, name))
    assert found.summary["dice"].mean == pytest.approx(np.mean([scan.score.dice for scan in scored]))


def test_with_tta_the_answer_is_the_mean_over_eight_views_and_the_report_says_so(model, store):
    torch.manual_seed(0)
    plain = replace(model, networks=(SmallUNet(model.plan.channels, 1).eval(),))
    averaged = replace(plain, tta=True)
    image = store.image(4)
    views = []
    for flipped in (False, True):
        for turns in range(4):
            seen = np.rot90(image[..., ::-1] if flipped else image, turns, (-2, -1))
            upright = np.rot90(plain.probabilities(seen.copy()), -turns, (-2, -1))
            views.append(upright[..., ::-1] if flipped else upright)
    found = averaged.probabilities(image)
    np.testing.assert_allclose(found, np.mean(views, axis=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, views[0], atol=1e-5)
    assert (run(averaged, store).subject.tta, run(averaged, store).subject.views) == (True, 8)
    assert (run(plain, store).subject.tta, run(plain, store).subject.views) == (False, 1)


def test_with_tta_a_model_whose_masks_lie_beside_is_seen_from_their_side_alone(model, store):
    offset = {"rows": 0.0, "columns": 0.1, "rows_spread": 0.01, "columns_spread": 0.01, "scans": 20}
    card = {**model.card, "plan": {**model.card["plan"], "fingerprint": {"mask_offset": offset}}}
    torch.manual_seed(0)
    plain = replace(model, card=card, networks=(SmallUNet(model.plan.channels, 1).eval(),))
    averaged, image = replace(plain, tta=True), store.image(4)
    mirrored = plain.probabilities(image[..., ::-1, :].copy())[..., ::-1, :]
    expected = (plain.probabilities(image) + mirrored) / 2
    np.testing.assert_allclose(averaged.probabilities(image), expected, rtol=1e-5, atol=1e-6)
    assert run(averaged, store).subject.views == 2


def test_the_report_says_what_was_evaluated_and_with_what(model, store):
    found = run(model, store, threshold=0.25).subject
    assert (found.model, found.network, found.dataset, found.sha256) == ("bright", "pointwise", "scans.zip", OWN)
    assert (found.split, found.classes, found.threshold, found.device, found.precision) == (
        "test",
        2,
        0.25,
        "cpu",
        "fp32",
    )
    assert found.versions["torch"] == importlib.metadata.version("torch")
    assert found.created_at.endswith("+00:00")


@pytest.mark.parametrize(
    ("wanted", "names", "notes"),
    [
        ("test", ["s4", "s5"], ()),
        ("val", ["s2", "s3"], ("epoch_chosen_on_these_scans",)),
        ("train", ["s0", "s1"], ("trained_on_these_scans",)),
        ("all", ["s0", "s1", "s2", "s3", "s4", "s5"], ("trained_on_these_scans", "epoch_chosen_on_these_scans")),
    ],
)
def test_the_splits_of_the_training_are_evaluated_and_what_the_model_saw_is_said(model, store, wanted, names, notes):
    found = run(model, store, split=wanted)
    assert [scan.name for scan in found.scans] == names
    assert found.notes == notes
    expected = {"s0": "train", "s1": "train", "s2": "val", "s3": "val", "s4": "test", "s5": "test"}
    assert {scan.name: scan.split for scan in found.scans} == {name: expected[name] for name in names}


def test_without_a_test_split_the_own_dataset_is_validated(store, tmp_path):
    own = open_model(publish(tmp_path / "m", store, OWN, replace(SPLITS, test=())), "cpu")
    assert design(own, store).split == "val"
    with pytest.raises(OctaError, match=r"no scans for test: 2 train, 2 val, 0 test, 6 in all"):
        design(own, store, split="test")


def official(folder, splits):
    """A store whose zip names splits."""
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for number, (split, (image, mask)) in enumerate(zip(splits, synthetic_pairs(len(splits)), strict=True)):
            writer.add(f"s{number}", None, split, image, mask)
        writer.finish((0, 1))
    return DatasetStore(folder)


def test_another_dataset_is_evaluated_by_its_own_official_splits(model, tmp_path):
    other = official(tmp_path / "other", ["train", "test", "val", None])
    found = run(model, other, OTHER)
    assert [(scan.name, scan.split) for scan in found.scans] == [("s1", "test")]
    assert found.notes == ("other_dataset",)
    assert design(model, other, OTHER, split="val").indices == (2,)
    assert design(model, other, OTHER, split="train").indices == (0,)


def test_another_dataset_without_splits_is_evaluated_whole(model, store):
    found = design(model, store, OTHER)
    assert (found.split, found.indices) == ("all", (0, 1, 2, 3, 4, 5))
    for wanted in ("train", "val", "test"):
        with pytest.raises(OctaError, match="choose another split"):
            design(model, store, OTHER, split=wanted)


def test_a_single_scan_that_trains_and_validates_counts_as_trained_on(store, folder):
    card = read_card(folder)
    card["splits"] = {"train": ["s0"], "val": ["s0"], "test": []}
    division = divide(EvaluatedZip(store, "scans.zip", OWN), card)
    assert division.split_of(0) == "train"
    assert division.split_of(1) is None


def test_the_threshold_decides_what_is_found(model, store):
    low, high = (run(model, store, threshold=threshold) for threshold in (0.1, 0.9))
    for few, many in zip(high.scans, low.scans, strict=True):
        assert few.found_fraction < many.found_fraction
        assert few.true_fraction == many.true_fraction
        assert few.metrics.overall.auc == many.metrics.overall.auc


def dice_at(model, store, indices, threshold):
    """Mean Dice, computed plainly."""
    values = []
    for index in indices:
        found = model.probabilities(store.image(index))[1] >= np.float32(threshold)
        true = store.mask(index) > 0
        values.append(2 * (found & true).sum() / (found.sum() + true.sum()))
    return np.mean(values)


def test_a_threshold_is_tuned_on_validation_scans_and_used_only_if_asked(model, store):
    tuned = run(model, store, tune_threshold=True)
    assert tuned.tuned.scans == 2
    assert tuned.tuned.threshold != 0.5
    assert tuned.tuned.dice == pytest.approx(dice_at(model, store, SPLITS.val, tuned.tuned.threshold))
    assert tuned.tuned.usual_dice == pytest.approx(dice_at(model, store, SPLITS.val, 0.5))
    assert tuned.subject.threshold == 0.5
    assert tuned.summary == run(model, store).summary

    used = run(model, store, use_tuned_threshold=True)
    assert used.tuned == tuned.tuned
    assert used.subject.threshold == tuned.tuned.threshold
    assert used.summary["dice"].mean == pytest.approx(dice_at(model, store, SPLITS.test, tuned.tuned.threshold))
    assert used.notes == ()


def test_a_threshold_used_on_the_scans_that_chose_it_is_noted(model, store):
    assert "threshold_tuned_on_these_scans" in run(model, store, split="val", use_tuned_threshold=True).notes
    assert "threshold_tuned_on_these_scans" not in run(model, store, split="val", tune_threshold=True).notes


def test_without_validation_scans_there_is_nothing_to_tune_on(model, store):
    with pytest.raises(OctaError, match="tuned on validation scans and the zip has none: 0 train, 0 val, 0 test, 6 in"):
        design(model, store, OTHER, tune_threshold=True)


def test_lengths_are_measured_in_the_units_asked_for(model, store):
    pixels, microns = run(model, store), run(model, store, pixel_size_um=(10.0,))
    assert microns.summary["assd"].mean == pytest.approx(10 * pixels.summary["assd"].mean)
    assert microns.summary["surface_dice"] == pixels.summary["surface_dice"]
    wide = run(model, store, tolerance=100.0)
    assert wide.summary["surface_dice"].mean == 1
    with pytest.raises(OctaError, match="one for each of 2 axes"):
        design(model, store, pixel_size_um=(1.0, 2.0, 3.0))


def test_every_scan_is_told_of_when_it_is_done(model, store):
    told = []
    work = design(model, store, tune_threshold=True)
    work.run(told.append)
    assert told == ["s2", "s3", "s4", "s5"]
    assert work.total == 4


def test_the_worst_scans_have_pictures_in_the_order_of_the_report(model, store):
    found = design(model, store, split="all").run(lambda name: None)
    assert [picture.scan for picture in found.pictures] == list(found.report.worst)
    assert len(found.pictures) == 5
    with Image.open(io.BytesIO(found.pictures[0].png)) as picture:
        assert picture.size == (3 * 32 + 2 * 4, 32)


def test_the_epochs_of_the_training_are_kept(model, store):
    found = design(model, store).run(lambda name: None, [epoch(1)])
    assert found.report.history == (epoch(1),)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Three classes that show as dark, grey and bright; class 2 is in the second scan alone."""
    masks = np.zeros((2, 32, 32), np.uint8)
    masks[0, :8], masks[1, :8], masks[1, 8:16] = 1, 1, 2
    pairs = [((mask * 127)[None], mask) for mask in masks]
    pairs[1][0][0, 4:8] = 255  # half of class 1 looks like class 2
    return write_store(tmp_path_factory.mktemp("classes"), pairs, (0, 1, 2))


def test_several_classes_are_scored_each_for_itself(classes, tmp_path):
    model = open_model(publish(tmp_path / "m", classes, OWN), "cpu")
    found = run(model, classes, split="all")
    first, second = (scan.metrics.classes for scan in found.scans)
    assert (first[0].dice, first[1]) == (1, None)
    assert second[0].dice == pytest.approx(2 * 4 / (4 + 8))
    assert second[1].dice == pytest.approx(2 * 8 / (12 + 8))
    assert found.class_summaries[1]["dice"].scans == 1
    assert found.subject.threshold is None
    with pytest.raises(OctaError, match="3 classes, of which the likeliest wins"):
        design(model, classes, tune_threshold=True)


def test_masks_of_other_classes_are_refused(model, classes):
    with pytest.raises(OctaError, match="the masks have 3 classes with background, but the model has 2"):
        design(model, classes)


def test_a_model_of_volumes_is_not_evaluated_on_pictures(model, store):
    of_volumes = replace(model, card={**model.card, "spatial_dims": 3})
    with pytest.raises(ModelDoesNotFit, match="was trained on volumes, but the dataset holds pictures"):
        design(of_volumes, store)


def test_colour_scans_are_brought_to_the_models_channels(model, tmp_path):
    pairs = [(np.repeat(image, 3, axis=0), mask) for image, mask in synthetic_pairs(2)]
    colour, grey = write_store(tmp_path / "colour", pairs), write_store(tmp_path / "grey", synthetic_pairs(2))
    one, other = (run(model, data, OTHER).summary["dice"].mean for data in (colour, grey))
    assert one == pytest.approx(other, abs=0.01)


def test_a_card_of_another_version_is_refused_in_words(folder, store, tmp_path):
    copied = publish(tmp_path / "m", store, OWN, SPLITS)
    card = read_card(folder)
    card["plan"]["config"]["no_such_option"] = 1
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(IncompatibleCheckpoint, match="of another version"):
        open_model(copied, "cpu")


def test_half_precision_that_the_device_lacks_becomes_single(store, tmp_path):
    copied = publish(tmp_path / "m", store, OWN, SPLITS)
    for trained, computed in (("fp16", "fp32"), ("bf16", "bf16")):
        card = read_card(copied)
        card["plan"]["config"]["precision"] = trained
        (copied / "card.json").write_text(json.dumps(card))
        found = open_model(copied, "cpu")
        assert found.plan.config.precision == computed
        assert run(found, store).subject.precision == computed


def test_the_likeliest_class_or_the_threshold_decides():
    assert decide(np.float32([[0.75, 0.5], [0.25, 0.5]]), 0.5).tolist() == [0, 1]
    assert decide(np.float32([[0.3], [0.7]]), 0.7).tolist() == [1]  # 0.7 is smaller in float32 than in float64
    assert decide(np.float32([[0.4], [0.25], [0.35]]), 0.1).tolist() == [0]
