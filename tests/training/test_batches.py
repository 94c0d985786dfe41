from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.training.batches import steps_per_epoch, training_batches
from tests.tiny import a_plan, training_data, write_store


def numbered(count, size=32):
    """Scan i is 10 * i everywhere, so that it can be told from the others."""
    return [(np.full((1, size, size), 10 * i, np.uint8), np.eye(size, dtype=np.uint8)) for i in range(count)]


def data_of(folder, pairs, val=1, mask_values=(0, 1)):
    return training_data(write_store(folder, pairs, mask_values), val)


def epoch(data, plan, seed=0):
    return list(training_batches(data, plan, torch.Generator().manual_seed(seed)))


def scan_numbers(batches):
    return [round(value * 255) // 10 for image, _ in batches for value in image[:, 0, 0, 0].tolist()]


@pytest.mark.parametrize(
    ("scans", "patches", "batch_size", "expected"),
    [(4, 1, 4, 1), (5, 1, 4, 2), (3, 1, 4, 1), (3, 4, 4, 3), (3, 3, 4, 3)],
)
def test_steps_per_epoch_count_a_smaller_last_batch(tmp_path, scans, patches, batch_size, expected):
    data = data_of(tmp_path, numbered(scans + 1))
    plan = a_plan(data, batch_size=batch_size).model_copy(update={"patches_per_scan": patches})
    assert steps_per_epoch(data.train, plan) == expected
    assert len(epoch(data, plan)) == expected


@pytest.mark.parametrize("patches", [1, 3])
def test_every_training_scan_comes_equally_often_and_no_other(tmp_path, patches):
    data = data_of(tmp_path, numbered(7), val=2)
    plan = a_plan(data, batch_size=2, augmentation="none").model_copy(update={"patches_per_scan": patches})
    assert sorted(scan_numbers(epoch(data, plan))) == sorted([0, 1, 2, 3, 4] * patches)


def test_order_is_new_in_every_epoch_and_the_same_for_the_same_seed(tmp_path):
    data = data_of(tmp_path, numbered(9))
    plan = a_plan(data, batch_size=2, augmentation="none")
    generator = torch.Generator().manual_seed(0)
    first, second = (scan_numbers(training_batches(data, plan, generator)) for _ in range(2))
    assert first != second
    assert scan_numbers(epoch(data, plan, seed=0)) == first


def test_batch_is_floats_in_0_to_1_and_class_indices(tmp_path):
    image = np.full((3, 40, 32), 255, np.uint8)
    mask = np.zeros((40, 32), np.uint8)
    mask[:10], mask[10:20] = 7, 30
    data = data_of(tmp_path, [(image, mask)] * 3, mask_values=(0, 7, 30))
    ((images, masks),) = epoch(data, a_plan(data, batch_size=2))
    assert (images.dtype, images.shape) == (torch.float32, (2, 3, 48, 32))
    assert images.min() >= 0
    assert images.max() <= 1
    assert (masks.dtype, masks.shape) == (torch.int64, (2, 48, 32))
    assert set(masks.unique().tolist()) == {0, 1, 2}


def test_smaller_scans_are_mirrored_up_to_the_patch(tmp_path):
    image = np.arange(400, dtype=np.float32).reshape(1, 20, 20)
    mask = np.tri(20, dtype=np.uint8)
    data = data_of(tmp_path, [(image, mask)] * 2)
    ((images, masks),) = epoch(data, a_plan(data, augmentation="none"))
    assert images.shape == (1, 1, 32, 32)
    found, scaled = images[0, 0].numpy(), image[0] / 399
    np.testing.assert_allclose(found[:20, :20], scaled)
    np.testing.assert_allclose(found[20:, :20], scaled[:7:-1])
    np.testing.assert_allclose(found[:20, 20:], scaled[:, :7:-1])
    assert np.array_equal(masks[0, 20:, :20], mask[:7:-1])


def test_scan_much_smaller_than_the_patch_is_mirrored_again_and_again(tmp_path):
    small = (np.zeros((1, 16, 16), np.uint8), np.eye(16, dtype=np.uint8))
    data = data_of(tmp_path, [small, (np.zeros((1, 64, 64), np.uint8), np.zeros((64, 64), np.uint8))])
    ((images, masks),) = epoch(data, a_plan(data, augmentation="none"))
    assert images.shape == (1, 1, 64, 64)
    assert masks.sum() == 16 * 16  # each of the 4 x 4 tiles holds the diagonal or its mirror image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_patches_are_cut_at_random_places_with_their_mask(tmp_path, dtype):
    mask = (np.random.default_rng(0).random((80, 96)) > 0.5).astype(np.uint8)
    image = mask[None].astype(dtype) * dtype(255)
    data = data_of(tmp_path, [(image, mask)] * 9)
    batches = epoch(data, a_plan(data, batch_size=4, patch_size=32, augmentation="none"))
    images, masks = (torch.cat(part) for part in zip(*batches, strict=True))
    assert images.shape[-2:] == (32, 32)
    assert torch.equal(images[:, 0], masks.float())
    assert len({tuple(m.flatten().tolist()) for m in masks}) > len(masks) // 2


def test_deep_scans_are_scaled_by_their_whole_range_not_the_patchs(tmp_path):
    image = np.zeros((1, 64, 64), np.uint16)
    image[0, 0, 0], image[0, 1:, 1:] = 60_000, 6_000
    mask = np.ones((64, 64), np.uint8)
    data = data_of(tmp_path, [(image, mask)] * 9)
    ((images, _),) = epoch(data, a_plan(data, batch_size=8, patch_size=32, augmentation="none"))
    assert images[:, 0, -1, -1].tolist() == pytest.approx([0.1] * 8)


def test_augmentation_is_switched_by_the_config(tmp_path):
    data = data_of(tmp_path, numbered(4))
    plain, augmented = (epoch(data, a_plan(data, augmentation=name)) for name in ("none", "standard"))
    assert all(image.flatten(1).std(1).max() == 0 for image, _ in plain)
    assert all(torch.equal(mask, torch.eye(32).long().expand_as(mask)) for _, mask in plain)
    assert not all(torch.equal(mask, torch.eye(32).long().expand_as(mask)) for _, mask in augmented)


def test_memory_layout_is_the_plans(tmp_path):
    pairs = [(np.zeros((3, 32, 32), np.uint8), np.eye(32, dtype=np.uint8))] * 3
    data = data_of(tmp_path, pairs)
    plan = a_plan(data).model_copy(update={"channels_last": True})
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image, _ in epoch(data, plan))


def test_whole_scan_has_its_full_size(tmp_path):
    image, mask = np.full((3, 33, 47), 51, np.uint8), np.full((33, 47), 255, np.uint8)
    data = data_of(tmp_path, [(image, mask)] * 2, mask_values=(0, 255))
    found_image, found_mask = data.whole(1)
    assert (found_image.shape, found_image.dtype) == ((1, 3, 33, 47), torch.float32)
    assert found_image.unique().tolist() == pytest.approx([0.2])
    assert (found_mask.shape, found_mask.dtype, found_mask.unique().tolist()) == ((1, 33, 47), torch.int64, [1])
