import numpy as np
import pytest
from scipy import ndimage

from octa_backend.data.intake import prepare
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic_volumes import make_volume, write_volume_zip
from tests.data.test_volume_intake import LIMITS


def test_vessels_are_bright_connected_and_become_thinner():
    volume = make_volume(48, np.random.default_rng(1))
    assert volume.image.shape == volume.mask.shape == (48, 48, 48)
    assert 0.01 < volume.mask.mean() < 0.12
    assert volume.image[volume.mask].mean() > 1.8 * volume.image[~volume.mask].mean()
    _, trees = ndimage.label(volume.mask, np.ones((3, 3, 3)))
    assert trees <= 6
    calibre = ndimage.distance_transform_edt(volume.mask)
    assert calibre[:6].max() > calibre[-12:].max()


def test_thick_slices_show_the_same_tree():
    fine, thick = (make_volume(48, np.random.default_rng(1), thickness) for thickness in (1, 4))
    assert thick.mask.shape == (12, 48, 48)
    assert thick.mask.mean() == pytest.approx(fine.mask.mean(), rel=0.4)


def test_equal_seeds_give_equal_bytes_and_a_dataset_without_findings(tmp_path):
    for name in ("a.zip", "b.zip"):
        write_volume_zip(tmp_path / name, 2, size=32, seed=3, slice_thickness=2)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    found = prepare(tmp_path / "a.zip", tmp_path / "out", LIMITS)
    assert found.findings == ()
    assert found.manifest.spacing_mm == pytest.approx((0.2, 0.1, 0.1))
    np.testing.assert_array_equal(
        DatasetStore(tmp_path / "out").mask(0), make_volume(32, np.random.default_rng([3, 0]), 2).mask
    )


@pytest.mark.parametrize(("size", "thickness"), [(20, 1), (32, 0), (32, 17)])
def test_sizes_that_make_no_volume_are_refused(size, thickness):
    with pytest.raises(ValueError, match="2 slices or more"):
        make_volume(size, np.random.default_rng(0), thickness)
