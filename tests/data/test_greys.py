from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data.greys import box_reduced, counts_of, entropy_bits, grey_of, levels_of, thumbnails, variance


def test_levels_are_the_values_that_are_there_with_their_pixels_over_all_channels():
    image = np.zeros((3, 4, 4), np.uint8)
    image[1, 0, :3] = 7
    found = levels_of(image)
    assert (found.values.tolist(), found.counts.tolist()) == ([0.0, 7.0], [45, 3])


def test_levels_of_real_numbers_keep_the_extremes():
    image = np.array([[[-1.5, 0.0], [0.25, 8.0]]], np.float32)
    found = levels_of(image)
    assert (found.values[0], found.values[-1], found.counts.sum()) == (-1.5, 8.0, 4)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 1), (0.51, 2), (0.9, 2), (1.0, 9)])
def test_a_percentile_is_the_least_value_that_so_many_pixels_do_not_exceed(share, value):
    image = np.array([1] * 5 + [2] * 4 + [9], np.uint8).reshape(1, 2, 5)
    assert levels_of(image).percentile(share) == value


def test_pixels_are_counted_inside_of_a_mask():
    plane = np.array([[1, 2], [2, 255]], np.uint8)
    inside = np.array([[True, True], [False, True]])
    for kind in (np.uint8, np.uint16):
        assert np.flatnonzero(counts_of(plane.astype(kind))).tolist() == [1, 2, 255]
        counts = counts_of(plane.astype(kind), inside)
        assert (counts[1], counts[2], counts[255], counts.sum()) == (1, 1, 1, 3)


def test_8_bit_greys_stay_as_they_are_and_deeper_ones_fill_the_range():
    eight = np.array([[[0, 3], [7, 9]]], np.uint8)
    assert grey_of(eight).tolist() == [[0, 3], [7, 9]]
    deep = np.linspace(500, 700, 1000).reshape(1, 20, 50)
    for kind in (np.uint16, np.float32):
        grey = grey_of(deep.astype(kind))
        assert (grey.dtype, grey.min(), grey.max()) == (np.uint8, 0, 255)


def test_boxes_are_averaged_and_what_fills_none_is_left_out():
    plane = np.arange(25, dtype=np.uint8).reshape(5, 5)
    planes = np.stack([plane, plane[::-1]])
    assert box_reduced(planes, 2).tolist() == [[[3, 5], [13, 15]], [[18, 20], [8, 10]]]
    assert box_reduced(planes > 11, 2)[0].tolist() == [[0, 0], [0.5, 1]]
    assert np.array_equal(box_reduced(planes, 1), planes)


def test_thumbnails_of_larger_and_smaller_planes_hold_area_means():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 100
    assert np.unique(thumbnails(checks.astype(np.uint8)[None], 32)).tolist() == [50]
    corners = np.array([[0, 80], [160, 240]], np.uint8)
    assert thumbnails(corners[None], 4)[0, ::3, ::3].tolist() == corners.tolist()


def test_variance_and_entropy_are_those_of_the_pixels():
    plane = np.array([[0, 0, 4, 8]], np.uint8)
    assert variance(counts_of(plane)) == pytest.approx(plane.var())
    assert entropy_bits(counts_of(plane)) == 1.5
    assert entropy_bits(counts_of(np.zeros((2, 2), np.uint8))) == 0


@pytest.mark.parametrize("side", [64, 50])
def test_each_plane_of_a_stack_has_the_thumbnail_it_has_alone(side):
    planes = np.random.default_rng(0).integers(0, 256, (3, side, 2 * side), dtype=np.uint8)
    found = thumbnails(planes, 32)
    assert found.shape == (3, 32, 32)
    for plane, small in zip(planes, found, strict=True):
        assert np.array_equal(thumbnails(plane[None], 32)[0], small)
