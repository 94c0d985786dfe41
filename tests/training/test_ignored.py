from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.errors import InvalidConfig
from octa_backend.training import loss_plan
from octa_backend.training.augmentation_sheet import augmentation_sheet
from octa_backend.training.batches import training_batches
from octa_backend.training.evaluation import Evaluated, evaluate
from octa_backend.training.ignored import IGNORED, dataset_classes, leave_out, network_classes, without_ignored
from octa_backend.training.losses import make_loss
from octa_backend.training.metrics import ScanScore, score_classes
from octa_backend.training.network import build_network
from octa_backend.training.run import Validation
from tests.tiny import a_plan, synthetic_pairs, training_data, write_store
from tests.training.runs import epochs, numbers, train

pytestmark = pytest.mark.usefixtures("tiny_registry")


def with_void(pairs, value):
    """The lower quarter of each mask has the value of a class that graders drew where they could not tell."""
    made = []
    for image, mask in pairs:
        void = mask.copy()
        void[24:] = value
        made.append((image, void))
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Vessels (1) beside a void class (2)."""
    return training_data(write_store(tmp_path_factory.mktemp("void"), with_void(synthetic_pairs(4), 2), (0, 1, 2)))


# --- numbers of classes ---------------------------------------------------------------------------------------------


def test_classes_above_the_ignored_one_move_down_and_back():
    mask = np.array([[0, 1, 2, 3]], np.uint8)
    found = network_classes(mask, 2)
    assert found.tolist() == [[0, 1, IGNORED, 2]]
    assert dataset_classes(found.clip(min=0).astype(np.uint8), 2).tolist() == [[0, 1, 0, 3]]
    assert without_ignored(mask, 2).tolist() == [[0, 1, 0, 3]]


def test_without_an_ignored_class_nothing_moves():
    mask = np.array([[0, 1, 2, 3]], np.uint8)
    assert network_classes(mask, None).tolist() == mask.tolist()
    assert dataset_classes(mask, None) is mask


def a_manifest(*values):
    entry = ScanEntry("s0", None, None, (32, 32), "uint8", 0, 0)
    return Manifest(2, 1, len(values), values, 0.5, (entry,))


def test_manifest_and_counts_are_those_of_the_other_classes():
    seen, count = leave_out(1, a_manifest(0, 3, 7), lambda: (60, 100, 20))
    assert (seen.classes, seen.mask_values, seen.foreground_fraction) == (2, (0, 7), 0.25)
    assert count() == (60, 20)


@pytest.mark.parametrize(
    ("values", "index", "message"),
    [
        ((0, 255), 1, "would leave one class of 0 .value 0 in the masks., 1 .value 255"),
        ((0, 1, 255), 3, "is no class of the masks, which have 0 .value 0 in the masks., 1 .value 1.*2 .value 255"),
    ],
)
def test_class_that_is_not_there_or_without_which_one_is_left_is_refused(values, index, message):
    with pytest.raises(InvalidConfig, match=message):
        leave_out(index, a_manifest(*values), lambda: (1,) * len(values))


# --- in a run -------------------------------------------------------------------------------------------------------


def test_network_is_binary_where_two_classes_remain(data):
    plan = a_plan(data, model="small_unet", ignore_index=2)
    assert (plan.classes, plan.dataset_classes, plan.out_channels) == (2, 3, 1)
    assert plan.config.loss == "dice_bce"
    assert build_network(plan).head.out_channels == 1
    assert a_plan(data, model="small_unet").out_channels == 3


def test_automatic_weights_count_the_other_pixels_alone(data, monkeypatch):
    monkeypatch.setattr(loss_plan, "SCARCE_FOREGROUND", 1.0)
    pixels = np.bincount(np.concatenate([data.store.mask(i).ravel() for i in data.train]))
    weight = a_plan(data, pos_weight="auto", ignore_index=2).config.pos_weight
    assert weight == pytest.approx(pixels[0] / pixels[1], rel=1e-3)
    weights = a_plan(data, loss="weighted_ce", ignore_index=2).config.class_weights
    assert weights == pytest.approx(pixels[:2].sum() / (2 * pixels[:2]), rel=1e-3)


def test_batches_say_which_pixels_do_not_count(data):
    plan = a_plan(data, augmentation="none", ignore_index=2)
    for _, mask, _ in training_batches(data, plan, torch.Generator().manual_seed(0)):
        assert (mask[:, 24:] == IGNORED).all()
        assert set(mask[:, :24].unique().tolist()) == {0, 1}


def test_no_patch_is_cut_around_ignored_pixels(tmp_path):
    mask = np.zeros((96, 96), np.uint8)
    mask[80:, 80:], mask[4, 4] = 2, 1
    data = training_data(write_store(tmp_path, [(mask[None] * 90, mask)] * 3, (0, 1, 2)))
    plan = a_plan(data, patch_size=32, augmentation="none", foreground_oversampling=1.0, ignore_index=2)
    for _, found, _ in training_batches(data, plan, torch.Generator().manual_seed(0)):
        assert ((found == 1).sum((1, 2)) == 1).all()


def test_share_of_foreground_that_decides_on_patches_is_that_of_the_pixels_that_count(tmp_path):
    mask = np.full((96, 96), 2, np.uint8)
    mask[:48], mask[0, :40] = 0, 1
    data = training_data(write_store(tmp_path, [(mask[None] * 90, mask)] * 3, (0, 1, 2)))
    options = {"patch_size": 32, "foreground_oversampling": "auto"}
    assert a_plan(data, **options).config.foreground_oversampling == 0
    assert a_plan(data, ignore_index=2, **options).config.foreground_oversampling > 0


def test_weights_that_are_given_are_those_of_the_classes_that_are_left(data):
    with pytest.raises(InvalidConfig, match="3 weights, but the masks have 2 classes with background and without"):
        a_plan(data, loss="weighted_ce", class_weights="1,5,1", ignore_index=2)


def test_a_class_that_is_everywhere_cannot_be_left_out(tmp_path):
    pairs = [(image, np.full_like(mask, 2)) for image, mask in synthetic_pairs(3)]
    data = training_data(write_store(tmp_path, pairs, (0, 1, 2)))
    with pytest.raises(InvalidConfig, match="ignore_index=2 leaves out every pixel of the training masks"):
        a_plan(data, loss="weighted_ce", ignore_index=2)


def test_ignored_pixels_do_not_count_in_metrics():
    target = torch.tensor([[1, 0, IGNORED, IGNORED]])
    (score,) = score_classes(torch.tensor([[1, 0, 1, 0]]), target, 2)
    assert (score.dice, score.precision) == (1.0, 1.0)


def evaluated(loss, dice):
    return Evaluated("s", loss, None if dice is None else ScanScore(dice, dice, dice, dice))


def test_scans_without_a_pixel_that_counts_are_left_out_of_a_validation(tmp_path):
    pairs = synthetic_pairs(3)
    pairs[2][1][:] = 2  # validates, and nothing in it counts
    data = training_data(write_store(tmp_path, pairs, (0, 1, 2)), val=2)
    plan = a_plan(data, ignore_index=2)
    network = build_network(plan).eval()
    seen, blank = evaluate(network, data, plan, make_loss(plan.config), data.val, lambda: False)
    assert (blank.score, blank.classes) == (None, (None,))
    assert Validation.of([seen, blank], plan) == Validation.of([seen], plan)
    assert seen.score.dice < 1


def test_a_validation_in_which_nothing_counts_is_no_success(data):
    plan = a_plan(data, ignore_index=2)
    assert Validation.of([evaluated(0.1, None)], plan).score == ScanScore(0, 0, 0, 0)
    assert Validation.of([evaluated(0.1, None), evaluated(0.5, 0.25)], plan).loss == 0.5


def test_ignoring_a_class_changes_the_losses_and_equal_seeds_give_equal_ones(tmp_path, data):
    runs = {
        name: train(tmp_path / name, data, epochs=1, ignore_index=index)[0]
        for name, index in (("one", 2), ("again", 2), ("counted", None))
    }
    assert [numbers(event) for event in runs["one"]] == [numbers(event) for event in runs["again"]]
    assert set(epochs(runs["one"])[0].loss_components) == {"bce", "dice"}
    assert epochs(runs["one"])[0].train_loss != epochs(runs["counted"])[0].train_loss


def test_scores_of_classes_have_the_datasets_numbers(tmp_path):
    masks = [(mask * (1 + np.arange(32) % 3)).astype(np.uint8) for _, mask in synthetic_pairs(3)]
    pairs = [(image, mask) for (image, _), mask in zip(synthetic_pairs(3), masks, strict=True)]
    data = training_data(write_store(tmp_path / "data", pairs, (0, 1, 2, 3)))
    events, _ = train(tmp_path / "job", data, epochs=1, ignore_index=2)
    assert [found["class"] for found in epochs(events)[0].per_class] == [1, 3]


def test_sheet_leaves_ignored_pixels_untinted(data):
    plan = a_plan(data, augmentation="light", augmentation_overrides={"contrast_probability": 0}, ignore_index=2)
    counted = a_plan(data, augmentation="light", augmentation_overrides={"contrast_probability": 0})
    assert not np.array_equal(augmentation_sheet(data, plan, 2), augmentation_sheet(data, counted, 2))
