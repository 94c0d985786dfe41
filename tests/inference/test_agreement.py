from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.inference.agreement import mask_agreement, with_other_shapes
from octa_backend.inference.check_scans import LONGEST_SIDE, check_scans
from octa_backend.inference.model_folder import nearby_dataset
from tests.tiny import synthetic_pairs, write_store


def test_agreement_is_the_share_of_pixels_with_the_same_class():
    logits = torch.tensor([[[[1.0, -1.0], [2.0, -2.0]]]])
    other = torch.tensor([[[[1.0, 1.0], [2.0, -2.0]]]])
    assert mask_agreement(lambda x: logits, lambda x: 3 * logits, [logits]) == 1.0
    assert mask_agreement(lambda x: logits, lambda x: other, [logits, logits]) == 0.75


def test_agreement_of_several_classes_compares_the_likeliest():
    logits = torch.tensor([[[[0.0, 5.0]], [[1.0, 0.0]], [[0.5, 4.0]]]])
    other = logits.clone()
    other[0, 2, 0, 1] = 6.0
    assert mask_agreement(lambda x: logits, lambda x: other, [torch.zeros(1, 1, 1, 2)]) == 0.5


def test_a_check_also_covers_a_batch_of_odd_sides():
    scans = with_other_shapes([torch.rand(1, 1, 64, 40)])
    assert [tuple(x.shape) for x in scans] == [(1, 1, 64, 40), (2, 1, 49, 31)]
    assert torch.equal(scans[1][0], scans[0][0, :, :49, :31])
    assert torch.equal(scans[1][1], scans[0][0, :, -49:, -31:])


@pytest.fixture
def data_folder(tmp_path):
    """A data folder with one model, and the dataset of five scans that it was trained on."""
    write_store(tmp_path / "datasets" / "f1", synthetic_pairs(5))
    (tmp_path / "models" / "m1").mkdir(parents=True)
    return tmp_path


CARD = {
    "channels": 1,
    "normalisation": "zscore",
    "dataset": {"file_id": "f1"},
    "splits": {"train": ["s0", "s1"], "val": ["s2", "s3"], "test": ["s4"]},
}


def test_a_model_is_checked_on_the_validation_scans_that_lie_beside_it(data_folder):
    dataset = nearby_dataset(data_folder / "models" / "m1", CARD)
    assert dataset == data_folder / "datasets" / "f1"
    found = check_scans(CARD, dataset, "val", 4)
    assert (found.source, len(found.scans)) == ("validation", 2)
    expected = synthetic_pairs(5)[2][0].astype(np.float32) / 255
    np.testing.assert_allclose(found.scans[0][0], (expected - expected.mean()) / expected.std(), atol=1e-5)


def test_integers_are_calibrated_on_training_scans(data_folder):
    found = check_scans(CARD, data_folder / "datasets" / "f1", "train", 1)
    assert (found.source, len(found.scans)) == ("train", 1)


@pytest.mark.parametrize("layout", ["octa_train/model", "octa_train/fold-1-of-2/model"])
def test_the_dataset_of_a_training_without_a_server_is_found(tmp_path, layout):
    write_store(tmp_path / "octa_train" / "dataset", synthetic_pairs(1))
    (tmp_path / layout).mkdir(parents=True)
    assert nearby_dataset(tmp_path / layout, {}) == tmp_path / "octa_train" / "dataset"


def test_drawn_scans_are_taken_where_the_dataset_is_gone(tmp_path):
    assert nearby_dataset(tmp_path / "models" / "m1", CARD) is None
    found = check_scans({"channels": 3}, None, "val", 2)
    assert found.source == "synthetic"
    assert [tuple(x.shape) for x in found.scans] == [(1, 3, 256, 256)] * 2
    assert not torch.equal(found.scans[0], found.scans[1])


def test_a_huge_scan_is_looked_at_in_part(tmp_path):
    image = np.zeros((1, 10, LONGEST_SIDE + 50), np.uint8)
    store = write_store(tmp_path / "dataset", [(image, image[0])])
    assert len(store) == 1
    card = {"channels": 1, "splits": {"val": ["s0"]}}
    assert check_scans(card, tmp_path / "dataset", "val", 1).scans[0].shape == (1, 1, 10, LONGEST_SIDE)
