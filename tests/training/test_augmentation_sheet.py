from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.training.augmentation_sheet import augmentation_sheet
from octa_backend.training.batches import TrainingData, training_batches
from tests.tiny import a_plan, synthetic_pairs, training_data, write_store
from tests.training.volumes import VolumeStore

CELL = 256 + 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(4)))


@pytest.mark.parametrize(("count", "rows", "columns"), [(16, 4, 8), (5, 2, 8), (2, 1, 4)])
def test_sheet_shows_so_many_scans_each_with_its_mask_four_in_a_row(data, count, rows, columns):
    sheet = augmentation_sheet(data, a_plan(data), count)
    assert (sheet.shape, sheet.dtype) == ((rows * CELL + 4, columns * CELL + 4, 3), np.uint8)


def test_sheet_shows_the_first_patches_of_the_training(data):
    plan = a_plan(data, seed=7)
    image, mask, _ = next(iter(training_batches(data, plan, torch.Generator().manual_seed(7))))
    sheet = augmentation_sheet(data, plan, 2)
    for number in range(2):
        left = 4 + 2 * number * CELL
        shown = sheet[4 : 4 + 256, left : left + 256, 0][4::8, 4::8] / 255  # 8 pixels for each of 32
        assert np.abs(shown - image[number, 0].numpy()).mean() < 0.05
        overlaid = sheet[4 : 4 + 256, left + CELL : left + CELL + 256][4::8, 4::8].astype(int)
        tinted = overlaid[..., 0] - overlaid[..., 2] > 52  # half of the tint, as pictures are enlarged smoothly
        assert (tinted == mask[number].bool().numpy()).mean() > 0.97


def test_sheet_is_the_same_for_the_same_seed_and_another_for_another(data):
    first, again, other = (augmentation_sheet(data, a_plan(data, seed=seed), 4) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sheet_shows_brightness_also_where_scans_are_standardised(data):
    plain, standardised = (augmentation_sheet(data, a_plan(data, normalisation=how), 4) for how in ("unit", "zscore"))
    assert np.array_equal(plain, standardised)


def test_sheet_of_volumes_shows_slices():
    data = TrainingData(VolumeStore(), train=(0, 1), val=(), test=())
    assert augmentation_sheet(data, a_plan(data), 3).shape == (CELL + 4, 6 * CELL + 4, 3)
