import json
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import voxel_sizes

from octa_backend.data.volume_geometry import (
    VolumeGeometry,
    orientation_of,
    resized,
    restore,
    stack_geometry,
    to_canonical,
)
from tests.volumes import affine_of

ORIENTATIONS = ["RAS", "LPS", "LAS", "ASR", "PIR", "SRA", "IPL"]


@pytest.mark.parametrize("tilt", [0.0, 20.0])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_volumes_of_any_orientation_come_to_nibabels_canonical_one_and_back(orientation, tilt):
    values = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    affine = affine_of(orientation, (0.5, 0.7, 2.0), values.shape, tilt)
    image = nib.Nifti1Image(values, affine)
    assert "".join(nib.aff2axcodes(affine)) == orientation

    canonical, new_affine, geometry = to_canonical(values, affine)

    expected = nib.as_closest_canonical(image)
    np.testing.assert_array_equal(canonical, np.asarray(expected.dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(new_affine, expected.affine)
    np.testing.assert_allclose(voxel_sizes(new_affine), (0.5, 0.7, 2.0))
    assert geometry.canonical_shape == canonical.shape
    assert geometry.orientation == orientation_of(affine) == orientation
    np.testing.assert_array_equal(restore(canonical, geometry), values)


def test_slices_rise_to_the_head_rows_to_the_front_columns_to_the_right():
    values = np.zeros((4, 5, 6), np.uint8)
    values[0, 1, 2] = 1  # in a file of LPS: far right, near the front, low
    canonical, affine, _ = to_canonical(values, affine_of("LPS", shape=values.shape))
    slice_, row, column = np.argwhere(canonical)[0]
    assert (slice_, row, column) == (2, 3, 3)
    assert (np.diag(affine)[:3] > 0).all()


def test_channels_come_in_front():
    values = np.zeros((4, 5, 6, 2), np.uint8)
    values[..., 1] = 7
    canonical, _, _ = to_canonical(values, affine_of("ASR", shape=(4, 5, 6)))
    assert canonical.shape[0] == 2
    assert (canonical[1] == 7).all()


def test_crop_and_resampling_are_undone():
    _, _, geometry = to_canonical(np.zeros((8, 6, 4), np.uint8), affine_of("LPS", shape=(8, 6, 4)))
    geometry = geometry.resampled((8, 6, 8), (0.5, 1.0, 1.0)).cropped(((2, 6), (1, 5), (0, 8)))
    mask = np.ones((4, 4, 8), np.uint8)
    restored = restore(mask, geometry)
    assert restored.shape == (8, 6, 4)
    assert restored.dtype == np.uint8
    assert restored.sum() == 8 * 4 * 2  # half of the slices, the four rows in the middle
    whole, _, _ = to_canonical(restored, affine_of("LPS", shape=(8, 6, 4)))
    assert whole[1:3, 1:5].all()


def test_probabilities_are_interpolated_on_the_way_back():
    geometry = stack_geometry((4, 4, 4)).resampled((2, 4, 4), (2.0, 1.0, 1.0))
    ramp = np.broadcast_to(np.array([0.0, 1.0], np.float32)[:, None, None], (2, 4, 4))
    np.testing.assert_allclose(restore(ramp, geometry)[:, 0, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_outside_of_the_crop_is_what_was_asked_for():
    geometry = stack_geometry((3, 3, 3)).cropped(((1, 2), (1, 2), (1, 2)))
    restored = restore(np.ones((1, 1, 1), np.uint8), geometry, fill=9)
    assert restored[1, 1, 1] == 1
    assert (restored == 9).sum() == 26


def test_an_array_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 2\)"):
        restore(np.zeros((2, 2, 2), np.uint8), stack_geometry((3, 3, 3)))


def test_geometry_survives_json():
    _, _, geometry = to_canonical(np.zeros((8, 6, 4), np.uint8), affine_of("ASR", shape=(8, 6, 4), tilt_degrees=10))
    for one in (geometry, geometry.resampled((3, 3, 3), (1, 2, 3)).cropped(((0, 1), (0, 2), (1, 3)))):
        assert VolumeGeometry.from_json(json.loads(json.dumps(asdict(one)))) == one


@pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])])
def test_an_affine_without_a_direction_is_refused(broken):
    with pytest.raises(ValueError, match="affine"):
        orientation_of(broken)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_volumes_are_spread_over_other_sizes(order):
    values = np.zeros((4, 6, 6), np.float32)
    values[2:] = 1
    spread = resized(values, (8, 6, 3), order)
    assert spread.shape == (8, 6, 3)
    assert spread[0].max() < 0.1
    assert spread[-1].min() > 0.9
