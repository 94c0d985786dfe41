from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label
from skimage import morphology

from octa_backend.training.skeleton import cldice, skeletonize
from tests.drawn import drawn


def test_a_bar_is_thinned_to_a_line_along_its_middle():
    bar = np.zeros((13, 24), dtype=bool)
    bar[4:9, 2:22] = True
    rows, columns = np.nonzero(skeletonize(bar))
    assert np.ptp(columns) >= 12  # shorter by about a radius at each end
    assert sorted(columns) == sorted(set(columns))  # one pixel wide
    assert abs(rows - 6).max() <= 1


def test_what_lies_outside_the_picture_is_background():
    bar = np.ones((5, 14), dtype=bool)
    assert (np.pad(skeletonize(bar), 3) == skeletonize(np.pad(bar, 3))).all()


@pytest.mark.parametrize(
    "line",
    [
        drawn("#####"),
        drawn("#", "#", "#"),
        drawn("#....", ".#...", "..#..", "...#."),
        drawn("..#..", "..#..", "##.##", "..#..", "..#.."),
    ],
    ids=["row", "column", "diagonal", "crossing"],
)
def test_a_line_of_one_pixel_stays_as_it_is(line):
    assert (skeletonize(line) == line).all()


def test_an_empty_mask_has_no_skeleton():
    assert not skeletonize(drawn("...", "...")).any()


def test_each_part_keeps_a_pixel_and_a_part_touching_at_a_corner_is_no_part_of_its_own():
    mask = drawn("##...##", "##...##", ".......", "#......", ".#.....")
    skeleton = skeletonize(mask)
    assert (skeleton <= mask).all()
    assert all(skeleton[part].any() for part in (np.s_[:2, :2], np.s_[:2, 5:]))
    assert (skeleton[3:] == mask[3:]).all()


def test_the_mask_is_not_changed():
    mask = drawn("###", "###", "###")
    skeletonize(mask)
    assert mask.all()


def circle(size, radius, middle):
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - middle[0], x - middle[1]) <= radius


def test_a_ring_stays_one_ring_of_single_pixels():
    ring = circle(40, 16, (20, 20)) & ~circle(40, 9, (20, 20))
    skeleton = skeletonize(ring)
    assert (skeleton <= ring).all()
    assert label(skeleton, np.ones((3, 3)))[1] == 1
    assert label(~skeleton)[1] == 2  # inside and outside
    away = np.hypot(*(np.argwhere(skeleton) - 20).T)
    assert (abs(away - 12.5) < 1.6).all()
    assert not any((skeleton[y : y + 2, x : x + 2]).all() for y in range(39) for x in range(39))


# --- volumes --------------------------------------------------------------------------------------------------------


def test_a_tube_is_thinned_to_its_axis():
    tube = np.zeros((5, 5, 9), dtype=bool)
    tube[1:4, 1:4, 1:8] = True
    assert [tuple(voxel) for voxel in np.argwhere(skeletonize(tube))] == [(2, 2, x) for x in range(2, 7)]


def test_a_ring_in_a_volume_stays_a_ring():
    z, y, x = np.mgrid[-4:5, -15:16, -15:16]
    skeleton = skeletonize(np.hypot(np.hypot(y, x) - 10, z) < 3)
    places = np.argwhere(skeleton) - (4, 15, 15)
    assert (places[:, 0] == 0).all()
    assert (abs(np.hypot(places[:, 1], places[:, 2]) - 10) < 1).all()
    assert label(~skeleton[4])[1] == 2  # inside and outside


def test_a_cube_of_two_keeps_one_voxel_though_the_thinning_removes_it():
    volume = np.zeros((4, 5, 9), dtype=bool)
    volume[1:3, 1:3, 1:3] = True
    volume[1, 2, 5:8] = True
    assert not morphology.skeletonize(volume)[:, :, :4].any()
    assert np.argwhere(skeletonize(volume)).tolist() == [[1, 1, 1], [1, 2, 5], [1, 2, 6], [1, 2, 7]]


def test_a_gap_in_a_tube_costs_clDice_what_it_takes_from_its_axis():  # noqa: N802
    tube = np.zeros((7, 7, 20), dtype=bool)
    tube[2:5, 2:5, 2:18] = True  # its axis has 14 voxels
    cut = tube.copy()
    cut[:, :, 9:13] = False
    assert skeletonize(tube).sum() == 14
    assert cldice(cut, tube) == pytest.approx(2 * 1 * (10 / 14) / (1 + 10 / 14))
    assert cldice(tube, tube) == 1


@pytest.mark.parametrize("shape", [(1, 6, 9), (6, 1, 9), (6, 9, 1)])
def test_a_volume_of_one_slice_is_thinned_too(shape):
    volume = np.zeros(shape, dtype=bool)
    volume.reshape(6, 9)[1:5, 1:8] = True
    skeleton = skeletonize(volume)
    assert 0 < skeleton.sum() < volume.sum() / 3
    assert cldice(volume, volume) == 1


@pytest.mark.parametrize("shape", [(5,), (2, 2, 3, 3)])
def test_what_is_neither_picture_nor_volume_is_refused(shape):
    with pytest.raises(ValueError, match="two or three axes"):
        skeletonize(np.ones(shape, dtype=bool))
    with pytest.raises(ValueError, match="two or three axes"):
        cldice(np.ones(shape, dtype=bool), np.ones(shape, dtype=bool))


# --- clDice ---------------------------------------------------------------------------------------------------------


def test_cldice_by_hand():
    # all of the marked line is found, 3 of 5 pixels of the found line are marked
    assert cldice(drawn("#####"), drawn("###..")) == pytest.approx(2 * (3 / 5) * 1 / (3 / 5 + 1))


def test_the_centre_line_of_a_thick_vessel_is_enough_for_cldice():
    bar = np.zeros((9, 24), dtype=bool)
    bar[2:7, 2:22] = True
    line = skeletonize(bar)
    assert cldice(line, bar) == cldice(bar, line) == 1


def test_the_scan_around_the_masks_is_of_no_account():
    one, other = np.random.default_rng(3).random((2, 20, 20)) > 0.4
    wide = [np.pad(mask, ((3, 9), (0, 20))) for mask in (one, other)]
    assert cldice(*wide) == cldice(one, other)


def test_a_gap_costs_clDice_what_it_takes_from_the_line():  # noqa: N802
    assert cldice(drawn("##.##"), drawn("#####")) == pytest.approx(2 * 1 * 0.8 / 1.8)


def test_cldice_of_empty_masks():
    empty, line = drawn("....."), drawn("#####")
    assert cldice(empty, empty) == 1.0
    assert cldice(empty, line) == cldice(line, empty) == 0.0


def test_masks_that_do_not_touch_have_a_cldice_of_0():
    assert cldice(drawn("##..."), drawn("...##")) == 0.0


def test_cldice_refuses_masks_of_different_shape():
    with pytest.raises(ValueError, match=r"the prediction is \(1, 5\) but the mask is \(1, 4\)"):
        cldice(drawn("#####"), drawn("####"))
