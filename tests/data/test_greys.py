from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data.greys import (
    Levels,
    box_reduced,
    counts_of,
    entropies_bits,
    greys_of,
    levels_of,
    thumbnails,
    variances,
)


def test_levels_count_the_pixels_of_each_value_over_all_channels():
    images = np.zeros((2, 3, 4, 4), np.uint8)
    images[0, 1, 0, :3], images[1] = 7, 255
    found = levels_of(images)
    assert found.values.tolist() == [list(range(256))]
    assert [np.flatnonzero(counts).tolist() for counts in found.counts] == [[0, 7], [255]]
    assert (found.counts[0, 0], found.counts[0, 7], found.counts[1, 255]) == (45, 3, 48)
    assert np.array_equal(levels_of(images.astype(np.uint16)).counts, found.counts)


def test_levels_of_real_numbers_keep_the_extremes():
    images = np.array([[[[-1.5, 0.0], [0.25, 8.0]]], [[[3, 3], [3, 3]]]], np.float32)
    found = levels_of(images)
    assert (found.percentile(0).tolist(), found.percentile(1).tolist()) == ([-1.5, 3], [8, 3])
    assert found.counts.sum(axis=1).tolist() == [4, 4]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 1), (0.51, 2), (0.9, 2), (1.0, 9)])
def test_a_percentile_is_the_least_value_that_so_many_pixels_do_not_exceed(share, value):
    image = np.array([1] * 5 + [2] * 4 + [9], np.uint8).reshape(1, 2, 5)
    found = levels_of(np.stack([image, image + np.uint8(3)]))
    assert found.percentile(share).tolist() == [value, value + 3]


def test_a_percentile_is_one_of_the_images_own_values():
    found = Levels(np.array([[1.0, 2.0], [10.0, 20.0]]), np.array([[3, 1], [1, 3]]))
    assert found.percentile(0.5).tolist() == [1, 20]
    assert found.shares.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_8_bit_greys_stay_as_they_are_and_deeper_ones_fill_the_range():
    eight = np.array([[[[0, 3], [7, 9]]]], np.uint8)
    assert greys_of(eight).tolist() == [[[0, 3], [7, 9]]]
    deep = np.stack([np.linspace(500, 700, 1000), np.linspace(0, 70, 1000)]).reshape(2, 1, 20, 50)
    for kind in (np.uint16, np.float32):
        greys = greys_of(deep.astype(kind))
        assert (greys.dtype, greys.shape) == (np.uint8, (2, 20, 50))
        assert (greys.min(axis=(1, 2)).tolist(), greys.max(axis=(1, 2)).tolist()) == ([0, 0], [255, 255])
    assert not greys_of(np.full((1, 1, 16, 16), 7, np.float32)).any()


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
    planes = np.array([[0, 0, 4, 8], [5, 5, 5, 5]], np.uint8)
    shares = levels_of(planes[:, None, None]).shares
    assert variances(shares) == pytest.approx(planes.var(axis=1))
    assert entropies_bits(shares).tolist() == [1.5, 0]


def test_pixels_are_counted_per_value():
    plane = np.array([[1, 2], [2, 255]], np.uint8)
    for kind in (np.uint8, np.uint16):
        counts = counts_of(plane.astype(kind))
        assert (counts[1], counts[2], counts[255], counts.sum()) == (1, 2, 1, 4)


@pytest.mark.parametrize("side", [64, 50])
def test_each_plane_of_a_stack_has_the_thumbnail_it_has_alone(side):
    planes = np.random.default_rng(0).integers(0, 256, (3, side, 2 * side), dtype=np.uint8)
    found = thumbnails(planes, 32)
    assert found.shape == (3, 32, 32)
    for plane, small in zip(planes, found, strict=True):
        assert np.array_equal(thumbnails(plane[None], 32)[0], small)
