import nibabel as nib
import numpy as np
import pytest

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.data.resampling import resample, resample_mask, resample_values, target_shape
from octa_backend.data.volume_case import content_of
from octa_backend.data.volume_files import read_volume, read_volume_mask
from octa_backend.data.volume_geometry import resized, restore
from octa_backend.data.volume_measuring import content_box, cut_out, measure_image
from tests.volumes import affine_of, ball, case, nifti

AFFINE = affine_of("LPS", (1, 1, 2))


@pytest.mark.parametrize("spline", ["linear", "cubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_keep_dtype_and_range_and_get_the_voxels_asked_for(spline, dtype):
    volume = read_volume(nifti(case(dtype=dtype)[0], AFFINE), "a.nii.gz", 10**6)
    found = resample(volume, (1, 1, 2), spline)
    assert found.values.shape == (1, 32, 18, 10)
    assert found.values.dtype == dtype
    assert found.values.max() <= volume.values.max()
    assert found.spacing_mm == (1, 1, 2)
    assert found.geometry.resampled_shape == (32, 18, 10)


def in_empty_space(empty, dtype):
    """A bright ball with grain in space that holds one value; where it is; all in one channel."""
    radius = np.sqrt(((np.indices((40, 40, 40)) - 19.5) ** 2).sum(0))
    grain = np.random.default_rng(0).normal(600, 40, radius.shape)
    return np.where(radius < 12, grain, empty).astype(dtype)[None]


@pytest.mark.parametrize("wanted", [0.8, 1.0, 2.5])
@pytest.mark.parametrize(("empty", "dtype"), [(0, np.uint16), (0, np.float32), (-1024, np.float32), (7, np.uint16)])
def test_empty_space_stays_empty(empty, dtype, wanted):
    volume = in_empty_space(empty, dtype)
    found, linear = (resample_values(volume, (1.25,) * 3, (wanted,) * 3, how)[0] for how in ("cubic", "linear"))
    box = content_box(found != empty)
    assert all(28 < (after - first) * wanted < 35 for first, after in box)  # the ball's 24 voxels of 1.25
    assert (found[linear == empty] == empty).all()


def test_a_body_in_empty_space_is_standardised_as_it_was():
    volume = in_empty_space(0, np.float32)
    found = resample_values(volume, (1.25,) * 3, (1.0,) * 3)
    cropped = cut_out(found, content_of(found))
    made = normalise(to_unit(cropped), "zscore_nonzero")[cropped > 400]
    assert made.mean() == pytest.approx(0.2, abs=0.2)
    assert measure_image(found, (1.0,) * 3).typical[0] == pytest.approx(600, abs=20)


def test_single_voxels_of_0_leave_the_spline_as_it_is():
    """Between -1000 and 1000 a 0 is a value like any other."""
    values = np.random.default_rng(0).integers(-9, 10, (1, 12, 12, 12)).astype(np.float32)
    found = resample_values(values, (1, 1, 1), (0.7, 0.7, 0.7))[0]
    expected = resized(values[0], found.shape, order=3).clip(values.min(), values.max())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_faces_stay_where_they_are():
    volume = read_volume(nifti(case()[0], AFFINE), "a.nii.gz", 10**6)
    found = resample(volume, (1, 1, 2))
    expected = nib.affines.apply_affine(volume.affine, [np.full(3, -0.5), (19.5, 17.5, 15.5)])
    for one, shape in ((volume, (20, 18, 16)), (found, (10, 18, 32))):
        faces = nib.affines.apply_affine(one.affine, [np.full(3, -0.5), np.array(shape) - 0.5])
        np.testing.assert_allclose(faces, expected)


def test_masks_keep_their_values_and_come_back():
    volume = read_volume_mask(nifti(3 * ball(), AFFINE), "m.nii.gz", 10**6)
    found = resample_mask(volume, (0.5, 0.5, 0.5))
    assert set(np.unique(found.values)) == {0, 3}
    np.testing.assert_array_equal(restore(found.values, found.geometry), 3 * ball())


def test_a_coarser_mask_comes_back_nearly():
    volume = read_volume_mask(nifti(ball(), AFFINE), "m.nii.gz", 10**6)
    back = restore(resample_mask(volume, (2, 2, 2)).values, resample_mask(volume, (2, 2, 2)).geometry)
    assert 2 * np.sum(back & ball()) / (back.sum() + ball().sum()) > 0.8


def test_sides_without_a_whole_number_of_voxels_get_the_nearest():
    assert target_shape((10, 10, 1), (1, 1, 0.1), (3, 0.3, 5)) == (3, 33, 1)
