from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.avascular_zone import find_avascular_zone
from octa_backend.inference.measurement import NotMeasurable
from tests.vessels import ellipse_ring


@pytest.mark.parametrize("radius", [20, 30, 45, 60])
def test_a_round_zone_is_measured_to_one_percent(radius):
    zone = find_avascular_zone(ellipse_ring(radius, radius))
    assert zone.area == pytest.approx(np.pi * radius**2, rel=0.01)
    assert zone.perimeter == pytest.approx(2 * np.pi * radius, rel=0.01)
    assert zone.circularity == pytest.approx(1, abs=0.01)
    assert zone.acircularity == pytest.approx(1, abs=0.01)
    assert zone.axial_ratio == pytest.approx(1, abs=0.01)
    assert zone.solidity == pytest.approx(1, abs=0.03)
    assert zone.centre == pytest.approx((99.5, 99.5))


@pytest.mark.parametrize(("down", "right"), [(20, 40), (30, 40), (45, 25)])
def test_an_ellipse_has_its_axial_ratio(down, right):
    zone = find_avascular_zone(ellipse_ring(down, right))
    perimeter = np.pi * (3 * (down + right) - np.sqrt((3 * down + right) * (down + 3 * right)))  # Ramanujan
    assert zone.area == pytest.approx(np.pi * down * right, rel=0.01)
    assert zone.perimeter == pytest.approx(perimeter, rel=0.01)
    assert zone.axial_ratio == pytest.approx(max(down, right) / min(down, right), rel=0.01)
    assert zone.circularity == pytest.approx(4 * np.pi * np.pi * down * right / perimeter**2, rel=0.02)


def test_a_square_loses_its_corners():
    mask = np.zeros((200, 200), bool)
    mask[60:140, 60:140] = True
    mask[64:136, 64:136] = False
    zone = find_avascular_zone(mask)
    assert zone.area == pytest.approx(72**2, rel=0.04)
    assert np.pi / 4 < zone.circularity < 1


def test_a_zone_off_the_centre_is_found():
    zone = find_avascular_zone(ellipse_ring(30, 30, middle=(110, 85)))
    assert zone.centre == pytest.approx((110, 85), abs=0.1)


def test_gaps_between_vessels_do_not_let_the_zone_out():
    ring = ellipse_ring(30, 30)
    ring[:, 96:104] = False
    zone = find_avascular_zone(ring)
    assert zone.area == pytest.approx(np.pi * 30**2, rel=0.03)


def test_a_wide_gap_lets_it_out_to_the_border():
    ring = ellipse_ring(30, 30)
    ring[:, 80:120] = False
    with pytest.raises(NotMeasurable, match="avascular_at_border"):
        find_avascular_zone(ring)


def test_a_zone_that_touches_the_border_is_refused():
    mask = np.zeros((80, 80), bool)
    mask[:, [10, 70]] = True
    with pytest.raises(NotMeasurable, match="avascular_at_border"):
        find_avascular_zone(mask)


def test_gaps_between_capillaries_are_no_zone():
    mask = np.zeros((80, 80), bool)
    mask[::3] = mask[:, ::3] = True
    with pytest.raises(NotMeasurable, match="no_avascular_region"):
        find_avascular_zone(mask)


@pytest.mark.parametrize(("fill", "reason"), [(False, "no_vessel"), (True, "no_avascular_region")])
def test_empty_and_full_masks_have_no_zone(fill, reason):
    with pytest.raises(NotMeasurable, match=reason):
        find_avascular_zone(np.full((40, 40), fill))
