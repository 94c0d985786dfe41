from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from octa_backend.data.store import MANIFEST_FILE, DatasetStore, Manifest, StoreWriter
from octa_backend.data.volume_geometry import stack_geometry


def write(folder, *scans, mask_values=(0, 255)):
    with StoreWriter(folder) as writer:
        for number, (image, mask) in enumerate(scans):
            writer.add(f"s{number}", None, None, image, mask)
        return writer.finish(mask_values)


def a_scan(dtype=np.uint8, height=17, width=19, channels=1, value=255):
    image = np.arange(channels * height * width).reshape(channels, height, width).astype(dtype)
    mask = np.zeros((height, width), np.uint8)
    mask[0] = value
    return image, mask


def test_scans_of_any_size_and_depth_come_back_as_they_went_in(tmp_path):
    scans = [a_scan(), a_scan(np.uint16, 21, 16), a_scan(np.float32, 16, 33)]
    write(tmp_path, *scans)
    store = DatasetStore(tmp_path)
    assert len(store) == 3
    for index, (image, mask) in enumerate(scans):
        assert store.image(index).dtype.name == image.dtype.name
        np.testing.assert_array_equal(store.image(index), image)
        np.testing.assert_array_equal(store.mask(index), mask // 255)


def test_images_are_read_only_aligned_views(tmp_path):
    write(tmp_path, a_scan(), a_scan(np.float32))
    image = DatasetStore(tmp_path).image(1)
    assert not image.flags.writeable
    assert image.flags.aligned
    assert image.base is not None


def test_masks_come_as_class_numbers(tmp_path):
    image, mask = a_scan()
    mask[1], mask[2] = 7, 30
    mask[0] = 0
    write(tmp_path, (image, mask), mask_values=(0, 7, 30))
    found = DatasetStore(tmp_path).mask(0)
    assert found.dtype == np.uint8
    assert [found[0, 0], found[1, 0], found[2, 0], found[3, 0]] == [0, 1, 2, 0]


def test_with_two_classes_every_value_but_zero_is_foreground(tmp_path):
    write(tmp_path, a_scan(value=255), a_scan(value=1))
    store = DatasetStore(tmp_path)
    np.testing.assert_array_equal(store.mask(0), store.mask(1))


def test_16_bit_mask_values_are_kept(tmp_path):
    image, _ = a_scan()
    mask = np.zeros((17, 19), np.uint16)
    mask[3] = 65535
    write(tmp_path, (image, mask), mask_values=(0, 65535))
    assert DatasetStore(tmp_path).mask(0).sum() == 19


def test_foreground_fraction_is_the_mean_over_scans_not_over_pixels(tmp_path):
    manifest = write(tmp_path, a_scan(height=20, width=20), a_scan(height=40, width=20))
    assert manifest.foreground_fraction == pytest.approx((1 / 20 + 1 / 40) / 2)


def test_manifest_survives_the_way_through_json(tmp_path):
    manifest = write(tmp_path, a_scan(), a_scan(np.uint16))
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json((tmp_path / MANIFEST_FILE).read_text()) == manifest


def test_manifest_of_another_format_is_refused(tmp_path):
    text = write(tmp_path, a_scan()).to_json()
    changed = json.dumps({**json.loads(text), "format": 2})
    with pytest.raises(ValueError, match="format 2"):
        Manifest.from_json(changed)


def test_a_pickled_store_carries_its_folder_only(tmp_path):
    write(tmp_path, a_scan(height=400, width=400))
    store = DatasetStore(tmp_path)
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).image(0), store.image(0))


@pytest.mark.parametrize(
    ("image", "mask", "complaint"),
    [
        (np.zeros((1, 16, 16), np.int64), np.zeros((16, 16)), "dtype int64"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16)), "not \\(C, H, W\\)"),
        (np.zeros((1, 16, 17), np.uint8), np.zeros((16, 16)), "not \\(C, H, W\\)"),
        (np.zeros((1, 16, 16), np.uint8), np.full((16, 16), 70_000), "outside 0..65535"),
        (np.zeros((1, 16, 16), np.uint8), np.full((16, 16), -1), "outside 0..65535"),
    ],
)
def test_what_the_store_cannot_hold_is_refused_with_the_scans_name(tmp_path, image, mask, complaint):
    with StoreWriter(tmp_path) as writer, pytest.raises(ValueError, match=f"eye: .*{complaint}"):
        writer.add("eye", None, None, image, mask)


def test_scans_with_different_channels_are_refused(tmp_path):
    with StoreWriter(tmp_path) as writer:
        writer.add("a", None, None, *a_scan(channels=1))
        with pytest.raises(ValueError, match="b: 3 channels"):
            writer.add("b", None, None, *a_scan(channels=3))


def test_a_store_without_scans_is_refused(tmp_path):
    with StoreWriter(tmp_path) as writer, pytest.raises(ValueError, match="at least one"):
        writer.finish((0, 1))


def test_volumes_are_kept_with_their_place_in_space_and_old_manifests_still_read(tmp_path):
    geometry = stack_geometry((6, 5, 4)).cropped(((0, 3), (0, 5), (0, 4)))
    image, mask = np.arange(120, dtype=np.float32).reshape(2, 3, 5, 4), np.zeros((3, 5, 4), np.uint8)
    with StoreWriter(tmp_path) as writer:
        writer.add("a", None, None, image, mask, spacing_mm=(5.0, 0.1, 0.1), geometry=geometry)
        with pytest.raises(ValueError, match="2 axes, the scans before it have 3"):
            writer.add("b", None, None, image[:, 0], mask[0])
        writer.finish((0, 1), modalities=("t1", "t2"))
    store = DatasetStore(tmp_path)
    assert (store.manifest.spatial_dims, store.manifest.modalities) == (3, ("t1", "t2"))
    assert store.manifest.scans[0].geometry == geometry
    assert store.manifest.spacing_mm == (5.0, 0.1, 0.1)
    np.testing.assert_array_equal(store.image(0), image)
    old = json.loads(store.manifest.to_json())
    for scan in old["scans"]:
        del scan["spacing_mm"], scan["geometry"]
    del old["modalities"]
    assert Manifest.from_json(json.dumps(old)).scans[0].geometry is None
