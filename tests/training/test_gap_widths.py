from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.training import distance_maps, gap_widths
from octa_backend.training.batches import training_batches
from octa_backend.training.distance_maps import border_map
from octa_backend.training.gap_widths import kept_gap_widths
from octa_backend.training.losses import compute_loss, make_loss
from tests.tiny import a_plan, tiny_networks, training_data, write_store
from tests.training.runs import train


def blobs(seed, side=48):
    """A grey image and a mask of four squares with gaps of a few pixels."""
    mask = np.zeros((side, side), np.uint8)
    for row, column in ((4, 4), (4, 15), (18, 6), (20, 19)):
        mask[row + seed : row + seed + 8, column : column + 8] = 1
    return np.full((1, side, side), 40 * seed, np.uint8), mask


def data_of(folder, pairs, mask_values=(0, 1)):
    return training_data(write_store(folder, pairs, mask_values), 1)


@pytest.fixture
def searched(monkeypatch):
    """How often a scan's objects were looked for."""
    found = []
    look = distance_maps._objects
    monkeypatch.setattr(distance_maps, "_objects", lambda mask: found.append(mask.shape) or look(mask))
    return found


def test_widths_are_computed_once_for_all_trainings_and_kept_beside_the_scans(tmp_path, searched):
    data = data_of(tmp_path, [blobs(0), blobs(1)])
    first = np.array(kept_gap_widths(data.store, 1, None))
    again = kept_gap_widths(type(data.store)(data.store.folder), 1, None)
    assert (len(searched), again.dtype) == (1, np.float16)
    np.testing.assert_array_equal(again, first)
    exact = distance_maps.gap_widths(torch.from_numpy(data.store.mask(1).astype(np.int64))[None])[0]
    np.testing.assert_allclose(first, exact, rtol=1e-3)
    assert [path.name for path in (data.store.folder / "gap-widths").iterdir()] == ["1.npy"]


def test_a_scan_with_one_object_has_no_gap(tmp_path):
    image, mask = blobs(0)
    mask[:, 14:] = 0
    mask[14:] = 0
    data = data_of(tmp_path, [(image, mask), blobs(1)])
    widths = kept_gap_widths(data.store, 0, None)
    assert np.unique(widths).tolist() == [np.float16(gap_widths.FAR)]
    assert border_map(torch.from_numpy(mask)[None], 5, torch.from_numpy(widths.astype(np.float32))[None]).sum() == 0


def test_an_ignored_class_has_widths_of_its_own(tmp_path):
    image, mask = blobs(0)
    mask[20:28, 19:27] = 2
    data = data_of(tmp_path, [(image, mask)] * 2, mask_values=(0, 1, 2))
    everything, without = kept_gap_widths(data.store, 0, None), kept_gap_widths(data.store, 0, 2)
    assert (without >= everything).all()
    assert (without > everything).any()


def test_another_training_may_be_quicker_where_open_files_are_not_replaced(tmp_path, monkeypatch):
    data = data_of(tmp_path, [blobs(0), blobs(1)])

    def beaten(path, content):
        path.write_bytes(content)
        raise PermissionError(path)

    monkeypatch.setattr(gap_widths, "write_aside", beaten)
    assert kept_gap_widths(data.store, 0, None).shape == (48, 48)
    monkeypatch.setattr(gap_widths, "write_aside", lambda path, _: (_ for _ in ()).throw(PermissionError(path)))
    with pytest.raises(PermissionError):
        kept_gap_widths(data.store, 1, None)


def test_widths_go_with_the_mask_through_patches_and_augmentation(tmp_path):
    data = data_of(tmp_path, [blobs(0), blobs(1), blobs(2)])
    options = {"loss": "unet_weight_map", "class_weights": (1.0, 1.0), "batch_size": 2}
    whole = [np.array(kept_gap_widths(data.store, scan, None)) for scan in data.train]
    turned = [np.rot90(widths, turns)[:, ::step] for widths in whole for turns in range(4) for step in (1, -1)]
    plan = a_plan(data, augmentation="light", patch_size=48, **options)
    for seed in range(5):
        for batch in training_batches(data, plan, torch.Generator().manual_seed(seed)):
            for gap in batch.gap.numpy():
                assert any(np.allclose(gap, widths, rtol=1e-2, atol=0.02) for widths in turned)
    windows = [np.lib.stride_tricks.sliding_window_view(widths, (32, 32)) for widths in whole]
    cut = a_plan(data, augmentation="none", patch_size=32, **options)
    for batch in training_batches(data, cut, torch.Generator().manual_seed(0)):
        for gap in batch.gap.numpy():
            assert any((window == gap).all((2, 3)).any() for window in windows)


def test_other_losses_need_no_widths(tmp_path):
    data = data_of(tmp_path, [blobs(0), blobs(1)])
    for batch in training_batches(data, a_plan(data), torch.Generator()):
        assert batch.gap is None
    assert not (data.store.folder / "gap-widths").exists()


def test_the_loss_is_that_of_the_mask_alone_where_nothing_was_resampled(tmp_path):
    data = data_of(tmp_path, [blobs(0), blobs(1)])
    plan = a_plan(data, loss="unet_weight_map", class_weights=(1.0, 2.0), augmentation="none", patch_size=48)
    (batch,) = training_batches(data, plan, torch.Generator())
    logits = torch.randn(batch.image.shape, generator=torch.Generator().manual_seed(0))
    loss = make_loss(plan.config)
    known, found = (compute_loss(loss, logits, batch.mask, gap).total.item() for gap in (batch.gap, None))
    assert known == pytest.approx(found, rel=1e-3)
    far = compute_loss(loss, logits, batch.mask, torch.full_like(batch.gap, 1e4)).total.item()
    assert far < 0.9 * known


def test_a_training_looks_for_the_objects_of_each_scan_once(tmp_path, searched):
    data = data_of(tmp_path, [blobs(seed) for seed in range(4)])
    with tiny_networks():
        train(tmp_path / "run", data, loss="unet_weight_map", class_weights=(1.0, 1.0), epochs=3)
    assert len(searched) == 4
