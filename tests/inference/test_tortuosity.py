from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.measurement import NotMeasurable
from octa_backend.inference.tortuosity import tortuosity
from octa_backend.inference.vessel_segments import Segments
from octa_backend.inference.vessel_tree import grow_tree
from tests.vessels import bar, ellipse_ring, sine, tube


def of_mask(mask):
    return tortuosity(grow_tree(mask).segments)


def curve_length(points):
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


@pytest.mark.parametrize("degrees", [0, 7, 10, 22.5, 30, 45, 60, 73])
@pytest.mark.parametrize("width", [1.5, 3, 5])
def test_a_straight_bar_is_not_tortuous(width, degrees):
    found = of_mask(bar(width, degrees=degrees))
    assert found.arc_chord[0] == pytest.approx(1.0, abs=0.01)
    assert found.curvature[0] < 0.007  # 1/px: a radius of 140 pixels
    assert found.density[0] < 1e-4


@pytest.mark.parametrize(
    ("amplitude", "period", "waves"), [(3, 64, 4), (5, 60, 4), (10, 80, 4), (15, 60, 4), (10, 80, 1)]
)
def test_a_sine_curve_has_the_tortuosity_of_its_formula(amplitude, period, waves):
    points = sine(amplitude, period, waves)
    found = of_mask(tube(points, 4, (120, 420)))
    length, bends = curve_length(points), 2 * waves
    half_wave = length / bends / (period / 2)
    slope = np.arctan2(*np.diff(points, axis=0).T)
    assert found.arc_chord[0] == pytest.approx(length / (period * waves), rel=0.02)
    assert found.curvature[0] == pytest.approx(np.abs(np.diff(slope)).sum() / length, rel=0.1)
    assert found.density[0] == pytest.approx((bends - 1) / bends * bends * (half_wave - 1) / length, rel=0.15)


@pytest.mark.parametrize("radius", [20, 30, 60])
def test_half_a_circle_is_half_pi_times_its_chord_and_bends_once(radius):
    ring = ellipse_ring(radius - 2, radius - 2)
    ring[100:] = False
    found = of_mask(ring)
    assert found.arc_chord[0] == pytest.approx(np.pi / 2, rel=0.06)
    assert found.curvature[0] == pytest.approx(1 / radius, rel=0.15)
    assert found.density[0] == 0.0


def test_segments_are_measured_apart():
    mask = bar(3, length=100)
    mask |= np.roll(ellipse_ring(20, 20), -60, axis=0) & (np.arange(200) < 40)[:, None]
    found = of_mask(mask)
    assert sorted(found.arc_chord.round(2).tolist())[0] == 1.0
    assert max(found.arc_chord) > 1.3


@pytest.mark.parametrize("mask", [bar(3, length=8), ellipse_ring(20, 20)], ids=["short", "closed"])
def test_short_and_closed_segments_have_no_tortuosity(mask):
    with pytest.raises(NotMeasurable, match="no_long_segment"):
        of_mask(mask)


def test_no_segments_have_no_tortuosity():
    with pytest.raises(NotMeasurable, match="no_long_segment"):
        tortuosity(Segments(np.zeros((0, 2)), np.zeros(1, np.intp)))
