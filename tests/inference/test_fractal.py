from __future__ import annotations

from math import log

import numpy as np
import pytest

from octa_backend.inference.fractal import box_count
from octa_backend.inference.measurement import NotMeasurable
from tests.vessels import carpet


@pytest.mark.parametrize(("depth", "error"), [(4, 0.04), (5, 0.02), (6, 0.01)])
def test_a_sierpinski_carpet_has_its_dimension(depth, error):
    found = box_count(carpet(depth))
    assert found.dimension == pytest.approx(log(8) / log(3), abs=error)
    assert found.r_squared > 0.998


def test_a_filled_plane_has_dimension_two():
    found = box_count(np.ones((200, 304), bool))
    assert (found.dimension, found.r_squared) == (pytest.approx(2.0), pytest.approx(1.0))


@pytest.mark.parametrize(("place", "error"), [(0, 0.12), (57, 0.04), (150, 0.04), (303, 0.12)])
def test_a_line_across_the_picture_has_a_dimension_near_one(place, error):
    mask = np.zeros((304, 304), bool)
    mask[place] = True
    assert box_count(mask).dimension == pytest.approx(1.0, abs=error)


@pytest.mark.parametrize(("place", "error"), [(0, 0.25), (57, 0.1), (150, 0.1), (303, 0.25)])
def test_a_point_has_a_dimension_near_zero(place, error):
    mask = np.zeros((304, 304), bool)
    mask[place, place] = True
    found = box_count(mask)
    assert 0 <= found.dimension < error
    assert 0 <= found.r_squared <= 1


@pytest.mark.parametrize(("shape", "filled", "reason"), [((64, 64), False, "no_vessel"), ((23, 99), True, "too_small")])
def test_what_has_no_dimension_says_why(shape, filled, reason):
    with pytest.raises(NotMeasurable, match=reason):
        box_count(np.full(shape, filled))


def test_the_smallest_picture_that_the_reason_names_is_measured():
    assert box_count(np.ones((24, 24), bool)).dimension == pytest.approx(2.0)
