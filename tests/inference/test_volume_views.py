from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.processing import resample_from_to

from octa_backend.data.resampling import resample
from octa_backend.data.volume_case import content_of
from octa_backend.data.volume_files import read_volume
from octa_backend.errors import ScanTooLarge
from octa_backend.inference.volume_predictor import predict_views, predict_volume
from octa_backend.inference.volume_views import SLAB, View, interpolated, require_room, view_of, whole_view
from tests.volume_models import by_brightness
from tests.volumes import affine_of, case, nifti

SIZES = [
    ("RAS", (1.0, 1.0, 1.0), (2.0, 1.0, 1.5)),
    ("LPS", (0.5, 1.0, 3.0), (1.0, 1.0, 1.0)),
    ("PIR", (2.0, 1.3, 0.7), (1.0, 0.9, 2.1)),
]


def drawn(orientation="RAS", spacing=(1.0, 1.0, 1.0), **options):
    return read_volume(nifti(case(**options)[0], affine_of(orientation, spacing)), "a.nii.gz", 10**6)


@pytest.mark.parametrize(("orientation", "spacing", "wanted"), SIZES)
@pytest.mark.parametrize("depth", [1, 5, 100])
def test_answers_lie_where_nibabel_puts_them(orientation, spacing, wanted, depth):
    volume = drawn(orientation, spacing)
    seen = resample(volume, wanted)
    view = whole_view(volume.values, volume.spacing_mm, wanted)
    np.testing.assert_array_equal(view.image, seen.values)
    assert view.shape == volume.values.shape[1:]
    answer = torch.from_numpy(np.concatenate([seen.values, 100 - seen.values]))
    slabs = list(interpolated(torch.split(answer, depth, dim=1), view.places))
    assert max(slab.shape[1] for slab in slabs) <= SLAB
    target = (volume.values.shape[:0:-1], volume.affine)
    for found, said in zip(torch.cat(slabs, dim=1), answer, strict=True):
        grid = nib.Nifti1Image(said.numpy().transpose(2, 1, 0), seen.affine)
        expected = np.asarray(resample_from_to(grid, target, order=1, mode="nearest").dataobj)
        np.testing.assert_allclose(found.numpy().transpose(2, 1, 0), expected, atol=1e-3)


@pytest.mark.parametrize(("orientation", "spacing", "wanted"), SIZES)
def test_what_is_not_empty_is_resampled_first_and_cropped_then(orientation, spacing, wanted):
    volume = drawn(orientation, spacing)
    box = content_of(volume.values)
    seen = resample(volume, wanted).values
    content = content_of(seen)
    view = view_of(volume.values, box, volume.spacing_mm, wanted)
    np.testing.assert_array_equal(view.image, seen[(slice(None), *(slice(*ends) for ends in content))])
    found = torch.cat(list(interpolated([torch.from_numpy(view.image)], view.places)), dim=1)
    whole = whole_view(volume.values, volume.spacing_mm, wanted)
    expected = torch.cat(list(interpolated([torch.from_numpy(whole.image)], whole.places)), dim=1)
    inner = (slice(None), *(slice(first + 2, after - 2) for first, after in box))
    torch.testing.assert_close(found[:, 2:-2, 2:-2, 2:-2], expected[inner])


@pytest.mark.parametrize("wanted", [(), (1.0, 1.0, 1.0), (1.009, 1.0, 0.991)])
def test_voxels_of_the_wanted_size_are_seen_as_they_are(wanted):
    volume = drawn()
    view = whole_view(volume.values, volume.spacing_mm, wanted)
    assert view.places is None
    assert view.image is volume.values
    box = ((1, 9), (2, 9), (3, 9))
    assert view_of(volume.values, box, volume.spacing_mm, wanted).image.shape == (1, 8, 7, 6)


def test_empty_space_around_a_body_is_cut_off_of_resampled_volumes_too():
    volume = np.zeros((1, 40, 40, 40), np.float32)
    volume[0, 10:30, 12:28, 14:26] = np.random.default_rng(0).normal(600, 40, (20, 16, 12))
    view = view_of(volume, content_of(volume), (1.25,) * 3, (1.0,) * 3)
    assert all(0 <= seen - true <= 2 for seen, true in zip(view.image.shape[1:], (25, 20, 15), strict=True))


def test_an_empty_volume_is_seen_whole():
    view = view_of(np.zeros((1, 20, 20, 20), np.uint8), ((0, 20),) * 3, (1, 1, 1), (2, 2, 2))
    assert view.image.shape == (1, 10, 10, 10)
    assert view.shape == (20, 20, 20)


def test_a_part_of_a_dataset_of_one_size_keeps_its_voxels():
    """Sides that held no whole number of voxels got the nearest that do, which need not be taken for equal."""
    side = 10.4 / 10
    part = np.random.default_rng(0).random((1, 10, 7, 3)).astype(np.float32)
    view = whole_view(part, (side,) * 3, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(view.image, part)
    back = torch.cat(list(interpolated([torch.from_numpy(part)], view.places)), dim=1)
    np.testing.assert_allclose(back, part, rtol=1e-6)


def test_models_of_voxels_of_different_sizes_answer_together(tmp_path):
    volume = drawn(dtype=np.uint8)
    model = by_brightness(tmp_path / "a")
    coarse = whole_view(volume.values, volume.spacing_mm, (2.0, 1.0, 1.0))
    found = predict_views([model, model], [View(volume.values), coarse], 0.5, with_probability=True)
    one, other = (predict_views([model], [view], 0.5, with_probability=True) for view in (View(volume.values), coarse))
    assert found.mask.shape == volume.values.shape[1:]
    mean = (one.probability[1].astype(float) + other.probability[1]) / 2
    assert np.abs(found.probability[1] - mean).max() <= 1
    np.testing.assert_array_equal(one.mask, predict_volume([model], volume.values, 0.5).mask)
    assert (one.mask != other.mask).any()


def test_too_many_voxels_are_refused_before_they_are_made():
    shape = (2, 10, 300, 300)
    require_room("a.nii.gz", shape, (5, 0.1, 0.1), (1, 1, 1), 10**6)
    require_room("a.nii.gz", shape, (5, 0.1, 0.1), (), 1)
    require_room("a.nii.gz", shape, (5, 0.1, 0.1), (5, 0.1, 0.1), 1)
    with pytest.raises(ScanTooLarge) as caught:
        require_room("a.nii.gz", shape, (5, 0.1, 0.1), (0.1, 0.1, 0.1), 10**6)
    assert caught.value.message == (
        "a.nii.gz is 10×300×300 voxels of 5×0.1×0.1 mm; the model was trained on voxels of 0.1×0.1×0.1 mm, of which it "
        "would have 500×300×300, and 1,000,000 voxels are allowed; send a part of it"
    )
