from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from octa_backend.training.surface_metrics import (
    average_surface_distance,
    hausdorff95,
    surface_dice,
    surface_distances,
)
from tests.drawn import drawn

EMPTY = drawn("....", "....")
FULL = drawn("####", "####")


def measure(predicted, target, spacing=None, tolerance=1.0):
    """HD95, ASSD and surface Dice."""
    distances = surface_distances(predicted, target, spacing or (1,) * target.ndim)
    return hausdorff95(distances), average_surface_distance(distances), surface_dice(distances, tolerance)


def test_equal_masks_lie_at_distance_0():
    mask = drawn("....", ".##.", ".##.")
    assert measure(mask, mask, tolerance=0) == (0, 0, 1)


def test_two_single_pixels_are_as_far_apart_as_they_are():
    assert measure(drawn("#....", "....."), drawn(".....", "...#.")) == pytest.approx((math.sqrt(10), math.sqrt(10), 0))


def test_both_directions_count_by_hand():
    # from the one pixel: 0; from the two: 0 and 4; the 95th percentile of these is 3.8
    hd95, assd, nsd = measure(drawn("#...."), drawn("#...#"))
    assert hd95 == pytest.approx(3.8)
    assert assd == pytest.approx((0 + 0 + 4) / 3)
    assert nsd == pytest.approx(2 / 3)


def test_the_larger_direction_is_taken_whichever_mask_has_it():
    one, two = drawn("#...."), drawn("#...#")
    assert measure(one, two) == measure(two, one)


def test_only_outlines_are_compared():
    # the inner pixel of the square belongs to no surface, so leaving it out makes a new surface of one pixel only
    square = drawn(".....", ".###.", ".###.", ".###.", ".....")
    ring = drawn(".....", ".###.", ".#.#.", ".###.", ".....")
    assert measure(square, ring, tolerance=0) == (0, 0, 1)


def test_the_pictures_edge_is_a_surface_so_that_full_masks_have_one():
    assert measure(FULL, FULL) == (0, 0, 1)
    inner = np.zeros((5, 5), dtype=bool)
    inner[2, 2] = True
    # 16 pixels of the frame lie at 2, √5 or √8 from the middle, which lies at 2 from the frame
    far = [math.hypot(y - 2, x - 2) for y, x in product(range(5), repeat=2) if max(abs(y - 2), abs(x - 2)) == 2]
    hd95, assd, nsd = measure(np.ones((5, 5), dtype=bool), inner, tolerance=2)
    assert hd95 == pytest.approx(math.sqrt(8))
    assert assd == pytest.approx((sum(far) + 2) / 17)
    assert nsd == pytest.approx((4 + 1) / 17)


def test_distances_are_in_the_unit_of_the_spacing():
    above, below = drawn("#.", "..", ".."), drawn("..", "..", "#.")
    assert measure(above, below, spacing=(2.5, 1), tolerance=5) == (5, 5, 1)
    assert measure(above, below, spacing=(2.5, 1), tolerance=4.9)[2] == 0


def test_volumes_are_measured_along_all_axes():
    one, other = np.zeros((2, 4, 5, 6), dtype=bool)
    one[0, 1, 2], other[3, 1, 2] = True, True
    assert measure(one, other, spacing=(10, 1, 1)) == (30, 30, 0)
    cube, moved = np.zeros((2, 5, 5, 5), dtype=bool)
    cube[1:4, 1:4, 0:3], moved[1:4, 1:4, 1:4] = True, True
    # a cube of 3 has 26 surface voxels; none is farther than the one step that the cube was moved
    distances = surface_distances(cube, moved, (1, 1, 1))
    assert distances.target.size == distances.predicted.size == 26
    assert surface_dice(distances, 1) == 1
    assert hausdorff95(distances) == 1


def test_two_empty_masks_have_no_distance_and_agree():
    assert measure(EMPTY, EMPTY) == (None, None, 1.0)


@pytest.mark.parametrize(("predicted", "target"), [(EMPTY, FULL), (FULL, EMPTY)])
def test_one_empty_mask_has_no_distance_and_no_overlap(predicted, target):
    assert measure(predicted, target, tolerance=1e9) == (None, None, 0.0)


def test_distances_are_those_of_a_plain_search():
    generator = np.random.default_rng(3)
    predicted, target = generator.random((2, 12, 13)) > 0.7
    distances = surface_distances(predicted, target, (1.5, 0.5))

    def surface(mask):
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner) * (1.5, 0.5)

    ours, theirs = surface(predicted), surface(target)
    table = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    assert distances.predicted == pytest.approx(table.min(axis=1))
    assert distances.target == pytest.approx(table.min(axis=0))


def test_masks_of_different_shape_and_wrong_spacings_are_refused():
    with pytest.raises(ValueError, match=r"the prediction is \(2, 4\) but the mask is \(1, 4\)"):
        surface_distances(FULL, FULL[:1], (1, 1))
    for spacing in ((1,), (1, 1, 1), (1, 0), (-1, 1)):
        with pytest.raises(ValueError, match="one length above 0 for each of 2 axes"):
            surface_distances(FULL, FULL, spacing)
