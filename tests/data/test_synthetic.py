import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from octa_backend.data import synthetic
from octa_backend.data.synthetic import make_scan, write_zip


def scan(size, seed=0):
    return make_scan(size, np.random.default_rng(seed))


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"
        return np.asarray(image)


@pytest.fixture(scope="module")
def full_size_scans():
    return [scan(320, seed) for seed in range(8)]


@pytest.mark.parametrize("size", [32, 33, 97, 320])
def test_scan_is_a_grey_image_and_a_boolean_mask_of_the_size_asked_for(size):
    drawn = scan(size)
    assert (drawn.image.shape, drawn.image.dtype) == ((size, size), np.uint8)
    assert (drawn.mask.shape, drawn.mask.dtype) == ((size, size), np.bool_)


@pytest.mark.parametrize("size", [31, 0, -5])
def test_size_too_small_for_a_vessel_tree_is_refused_with_both_numbers(size):
    with pytest.raises(ValueError, match=rf"size is {size}, but .* at least 32 pixels"):
        scan(size)


def test_same_seed_draws_the_same_scan_and_another_seed_another_one():
    first, again, other = scan(64, 7), scan(64, 7), scan(64, 8)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.mask, other.mask)


def test_foreground_share_is_that_of_graded_scans(full_size_scans):
    assert all(0.075 < drawn.mask.mean() < 0.15 for drawn in full_size_scans)
    assert 0.09 < np.mean([drawn.mask.mean() for drawn in full_size_scans]) < 0.13


def test_vessels_are_brighter_than_the_background(full_size_scans):
    for drawn in full_size_scans:
        assert drawn.image[drawn.mask].mean() > drawn.image[~drawn.mask].mean() + 60


def test_mask_lies_on_the_vessels_to_the_pixel(full_size_scans):
    for drawn in full_size_scans:
        contrasts = [drawn.image[np.roll(drawn.mask, shift, axis)].mean() for shift in (-1, 1) for axis in (0, 1)]
        assert drawn.image[drawn.mask].mean() > max(contrasts)


def test_foveal_avascular_zone_is_dark_and_holds_no_vessel(full_size_scans):
    for drawn in full_size_scans:
        centre = slice(160 - 5, 160 + 5)
        assert not drawn.mask[centre, centre].any()
        assert drawn.image[centre, centre].mean() < 0.6 * drawn.image[~drawn.mask].mean()


def test_calibres_range_from_arcades_to_thin_branches(full_size_scans):
    for drawn in full_size_scans:
        inner = drawn.mask.copy()
        for axis in (0, 1):
            inner &= np.roll(drawn.mask, 1, axis) & np.roll(drawn.mask, -1, axis)
        assert 0.1 < inner.sum() / drawn.mask.sum() < 0.6


def test_even_the_smallest_scans_have_vessels_and_background():
    shares = [scan(32, seed).mask.mean() for seed in range(20)]
    assert min(shares) > 0.01
    assert max(shares) < 0.3


def test_zip_holds_both_eyes_of_each_patient_with_masks_of_the_same_name(tmp_path):
    write_zip(tmp_path / "scans.zip", 3, size=48)
    names = ["001_OD.png", "001_OS.png", "002_OD.png"]
    written = contents(tmp_path / "scans.zip")
    assert sorted(written) == [f"{folder}/{name}" for folder in ("images", "masks") for name in names]
    for name in names:
        assert pixels(written[f"images/{name}"]).shape == (48, 48)
        assert set(np.unique(pixels(written[f"masks/{name}"]))) == {0, 255}


def test_zip_scan_depends_on_seed_and_index_only(tmp_path):
    write_zip(tmp_path / "scans.zip", 2, size=48, seed=5)
    expected = scan(48, [5, 1])
    written = contents(tmp_path / "scans.zip")
    assert np.array_equal(pixels(written["images/001_OS.png"]), expected.image)
    assert np.array_equal(pixels(written["masks/001_OS.png"]) > 0, expected.mask)


def test_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a.zip", 1), ("b.zip", 1), ("c.zip", 2)):
        write_zip(tmp_path / name, 2, size=48, seed=seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("a.zip", "b.zip", "c.zip"))
    assert first == again
    assert first != other


def test_larger_zip_extends_a_smaller_one(tmp_path):
    write_zip(tmp_path / "small.zip", 2, size=48)
    write_zip(tmp_path / "large.zip", 4, size=48)
    small, large = contents(tmp_path / "small.zip"), contents(tmp_path / "large.zip")
    assert len(large) == 2 * len(small)
    assert small.items() <= large.items()


def test_zip_replaces_an_older_one(tmp_path):
    target = tmp_path / "scans.zip"
    target.write_text("old")
    write_zip(target, 1, size=48)
    assert len(contents(target)) == 2
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("older", [None, "an older archive"])
def test_failure_half_way_leaves_nothing_new_behind(tmp_path, monkeypatch, older):
    target = tmp_path / "scans.zip"
    if older:
        target.write_text(older)
    seen = []

    def full_disk(archive, name, data):
        seen.append([path.name for path in tmp_path.iterdir() if path != target])
        if len(seen) == 3:
            raise OSError("No space left on device")

    monkeypatch.setattr(synthetic, "_add_png", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_zip(target, 4, size=48)
    assert all(len(names) == 1 and names[0].endswith(".part") for names in seen)
    assert [path.read_text() for path in tmp_path.iterdir()] == ([older] if older else [])


def test_empty_zip_is_refused(tmp_path):
    with pytest.raises(ValueError, match="count is 0"):
        write_zip(tmp_path / "scans.zip", 0)
    assert not list(tmp_path.iterdir())
