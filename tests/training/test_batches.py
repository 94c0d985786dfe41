from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.training.batches import TrainingData, steps_per_epoch, training_batches
from tests.tiny import a_plan, training_data, write_store
from tests.training.volumes import VolumeStore


def numbered(count, size=32):
    """Scan i is 10 * i everywhere, so that it can be told from the others."""
    return [(np.full((1, size, size), 10 * i, np.uint8), np.eye(size, dtype=np.uint8)) for i in range(count)]


def data_of(folder, pairs, val=1, mask_values=(0, 1)):
    return training_data(write_store(folder, pairs, mask_values), val)


def epoch(data, plan, seed=0):
    return list(training_batches(data, plan, torch.Generator().manual_seed(seed)))


def scan_numbers(batches):
    return [round(value * 255) // 10 for image, *_ in batches for value in image[:, 0, 0, 0].tolist()]


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
    ((images, masks, _),) = epoch(data, a_plan(data, batch_size=2))
    assert (images.dtype, images.shape) == (torch.float32, (2, 3, 48, 32))
    assert images.min() >= 0
    assert images.max() <= 1
    assert (masks.dtype, masks.shape) == (torch.int64, (2, 48, 32))
    assert set(masks.unique().tolist()) == {0, 1, 2}


def test_smaller_scans_are_mirrored_up_to_the_patch(tmp_path):
    image = np.arange(400, dtype=np.float32).reshape(1, 20, 20)
    mask = np.tri(20, dtype=np.uint8)
    data = data_of(tmp_path, [(image, mask)] * 2)
    ((images, masks, _),) = epoch(data, a_plan(data, augmentation="none"))
    assert images.shape == (1, 1, 32, 32)
    found, scaled = images[0, 0].numpy(), image[0] / 399
    np.testing.assert_allclose(found[:20, :20], scaled)
    np.testing.assert_allclose(found[20:, :20], scaled[:7:-1])
    np.testing.assert_allclose(found[:20, 20:], scaled[:, :7:-1])
    assert np.array_equal(masks[0, 20:, :20], mask[:7:-1])


def test_scan_much_smaller_than_the_patch_is_mirrored_again_and_again(tmp_path):
    small = (np.zeros((1, 16, 16), np.uint8), np.eye(16, dtype=np.uint8))
    data = data_of(tmp_path, [small, (np.zeros((1, 64, 64), np.uint8), np.zeros((64, 64), np.uint8))])
    ((images, masks, _),) = epoch(data, a_plan(data, augmentation="none"))
    assert images.shape == (1, 1, 64, 64)
    assert masks.sum() == 16 * 16  # each of the 4 x 4 tiles holds the diagonal or its mirror image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_patches_are_cut_at_random_places_with_their_mask(tmp_path, dtype):
    mask = (np.random.default_rng(0).random((80, 96)) > 0.5).astype(np.uint8)
    image = mask[None].astype(dtype) * dtype(255)
    data = data_of(tmp_path, [(image, mask)] * 9)
    batches = epoch(data, a_plan(data, batch_size=4, patch_size=32, augmentation="none"))
    images, masks = (torch.cat(part) for part in list(zip(*batches, strict=True))[:2])
    assert images.shape[-2:] == (32, 32)
    assert torch.equal(images[:, 0], masks.float())
    assert len({tuple(m.flatten().tolist()) for m in masks}) > len(masks) // 2


def test_deep_scans_are_scaled_by_their_whole_range_not_the_patchs(tmp_path):
    image = np.zeros((1, 64, 64), np.uint16)
    image[0, 0, 0], image[0, 1:, 1:] = 60_000, 6_000
    mask = np.ones((64, 64), np.uint8)
    data = data_of(tmp_path, [(image, mask)] * 9)
    ((images, *_),) = epoch(data, a_plan(data, batch_size=8, patch_size=32, augmentation="none"))
    assert images[:, 0, -1, -1].tolist() == pytest.approx([0.1] * 8)


def test_augmentation_is_switched_by_the_config(tmp_path):
    data = data_of(tmp_path, numbered(4))
    plain, augmented = (epoch(data, a_plan(data, augmentation=name)) for name in ("none", "standard"))
    assert all(image.flatten(1).std(1).max() == 0 for image, *_ in plain)
    assert all(torch.equal(mask, torch.eye(32).long().expand_as(mask)) for _, mask, _ in plain)
    assert not all(torch.equal(mask, torch.eye(32).long().expand_as(mask)) for _, mask, _ in augmented)


def test_memory_layout_is_the_plans(tmp_path):
    pairs = [(np.zeros((3, 32, 32), np.uint8), np.eye(32, dtype=np.uint8))] * 3
    data = data_of(tmp_path, pairs)
    plan = a_plan(data).model_copy(update={"channels_last": True})
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image, *_ in epoch(data, plan))


def test_whole_scan_has_its_full_size(tmp_path):
    image, mask = np.full((3, 33, 47), 51, np.uint8), np.full((33, 47), 255, np.uint8)
    data = data_of(tmp_path, [(image, mask)] * 2, mask_values=(0, 255))
    found_image, found_mask = data.whole(1)
    assert (found_image.shape, found_image.dtype) == ((1, 3, 33, 47), torch.float32)
    assert found_image.unique().tolist() == pytest.approx([0.2])
    assert (found_mask.shape, found_mask.dtype, found_mask.unique().tolist()) == ((1, 33, 47), torch.int64, [1])


# --- normalisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("how", ["unit", "zscore", "percentile"])
def test_whole_scan_is_normalised_as_asked(tmp_path, dtype, how):
    image = np.random.default_rng(0).integers(0, 200, (1, 40, 33)).astype(dtype)
    data = data_of(tmp_path, [(image, np.eye(40, 33, dtype=np.uint8))] * 2)
    np.testing.assert_array_equal(data.whole(0, how)[0][0].numpy(), normalise(to_unit(image), how))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("how", ["unit", "zscore", "percentile"])
def test_patches_have_the_numbers_of_their_whole_scan(tmp_path, dtype, how):
    random = np.random.default_rng(0)
    pairs = []
    for scan in range(4):
        image = (random.random((1, 64, 64)) ** 2 * 200 / (scan + 1)).astype(dtype)
        mask = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # says where a pixel comes from
        pairs.append((image, mask))
    data = data_of(tmp_path, pairs, mask_values=range(256))
    plan = a_plan(data, batch_size=3, patch_size=32, augmentation="none", normalisation=how)
    (batch,) = epoch(data, plan)
    whole = [data.whole(scan, how)[0][0, 0].numpy() for scan in range(4)]
    for patch in batch[0][:, 0].numpy():
        windows = [np.lib.stride_tricks.sliding_window_view(scan, (32, 32)) for scan in whole]
        assert any(np.isclose(window, patch, atol=1e-5).all((2, 3)).any() for window in windows)


def test_brightness_is_augmented_before_scans_are_standardised(tmp_path):
    image = np.tile(np.linspace(50, 200, 32), (1, 32, 1)).astype(np.uint8)
    data = data_of(tmp_path, [(image, np.eye(32, dtype=np.uint8))] * 9)
    overrides = {"brightness_probability": 1.0, "brightness_shift": 0.2}
    how = {"batch_size": 8, "augmentation": "none", "augmentation_overrides": overrides}
    ((plain, *_),), ((standardised, *_),) = (
        epoch(data, a_plan(data, **how, normalisation=name)) for name in ("unit", "zscore")
    )
    unit = to_unit(image)
    torch.testing.assert_close(standardised, (plain - float(unit.mean())) / float(unit.std()), atol=1e-4, rtol=0)
    assert plain.mean((1, 2, 3)).std() > 0.05


# --- patches --------------------------------------------------------------------------------------------------------


def test_share_of_the_patches_holds_the_foreground(tmp_path):
    image, mask = np.zeros((1, 128, 128), np.uint8), np.zeros((128, 128), np.uint8)
    mask[2, 2] = 1
    data = data_of(tmp_path, [(image, mask)] * 61)
    found = {}
    for share in (0.0, 1.0):
        plan = a_plan(data, batch_size=60, patch_size=32, augmentation="none", foreground_oversampling=share)
        masks = torch.cat([mask for _, mask, _ in epoch(data, plan)])
        found[share] = masks.flatten(1).any(1).float().mean()
    assert found[0.0] < 0.1
    assert found[1.0] == 1


def test_whole_scans_do_not_depend_on_the_oversampling(tmp_path):
    data = data_of(tmp_path, numbered(5))
    first, second = (epoch(data, a_plan(data, foreground_oversampling=share)) for share in (0.0, 1.0))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("augmentation", ["none", "strong"])
@pytest.mark.parametrize("how", ["unit", "zscore"])
def test_volumes_are_cut_augmented_and_normalised_too(augmentation, how):
    data = TrainingData(VolumeStore(), train=(0, 1), val=(), test=())
    plan = a_plan(data, patch_size=32, augmentation=augmentation, normalisation=how)
    assert plan.patch_shape == (24, 32, 32)
    ((image, mask, _),) = epoch(data, plan.model_copy(update={"patches_per_scan": 1, "channels_last": True}))
    assert (image.shape, image.dtype) == ((2, 1, 24, 32, 32), torch.float32)
    assert (mask.shape, mask.dtype) == ((2, 24, 32, 32), torch.int64)
    assert image.is_contiguous(memory_format=torch.channels_last_3d)
    if augmentation == "none":
        assert torch.equal(mask, (data_unit(image, data, how) > 200.5 / 255).long()[:, 0])


def data_unit(image, data, how):
    """The volumes back in 0..1; both have nearly the same mean and deviation."""
    if how == "unit":
        return image
    levels = data.measured(0, how).levels
    return image * levels.deviation + levels.mean
