import nibabel as nib
import numpy as np
import pytest

from octa_backend.data.resampling import resample, resample_mask, target_shape
from octa_backend.data.volume_files import read_volume, read_volume_mask
from octa_backend.data.volume_geometry import restore
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
