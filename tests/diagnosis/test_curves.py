from __future__ import annotations

import numpy as np
import pytest

from octa_backend.diagnosis.curves import Shape, approach, classic_plateau, shape, trend, window


def test_trend_of_a_line_is_its_slope_without_noise():
    found = trend([5.0, 4.5, 4.0, 3.5, 3.0])
    assert (found.slope, found.level, found.noise, found.change) == pytest.approx((-0.5, 3.0, 0.0, -2.0))
    assert found.certainty == np.inf
    assert found.relative_change == pytest.approx(-2 / 3)


def test_one_wild_epoch_does_not_turn_a_trend():
    calm = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert trend([*calm[:5], 9.0]).slope == pytest.approx(-0.1, abs=0.01)


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (5, 5), (8, 5), (14, 7), (20, 10), (200, 10)])
def test_window_is_half_of_the_run_within_bounds(count, expected):
    assert window(count) == expected


def noisy(values, share, seed=0):
    return np.array(values) * (1 + share * np.random.default_rng(seed).normal(size=len(values)))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.ones(4), Shape.UNCLEAR),
        (np.linspace(1, 0.6, 20), Shape.IMPROVING),
        (noisy(np.linspace(1, 0.6, 20), 0.01), Shape.IMPROVING),
        (noisy(np.full(20, 0.5), 0.01), Shape.FLAT),
        (np.full(12, 0.5), Shape.FLAT),
        (np.linspace(0.5, 0.8, 20), Shape.RISING),
        (noisy(np.full(20, 0.5), 0.4, seed=4), Shape.OSCILLATING),
    ],
)
def test_shape_does_not_depend_on_the_scale(values, expected, scale):
    assert shape(values * scale) is expected


def test_shape_has_hysteresis():
    """A fall of 1.5 % in a window is too little to be called one, but enough for one that was under way."""
    slow = 0.5 * np.linspace(1, 0.985, 10)
    assert shape(slow) is Shape.FLAT
    assert shape(np.concatenate([np.linspace(0.6, 0.502, 10), slow])) is Shape.IMPROVING


def test_approach_finds_limit_pace_and_what_is_left():
    epochs = np.arange(20)
    found = approach(0.2 + 0.6 * np.exp(-epochs / 8.0), epochs_left=10)
    assert found is not None
    assert found.limit == pytest.approx(0.2, abs=0.02)
    assert found.pace == pytest.approx(8.0, rel=0.15)
    assert found.gain == pytest.approx(0.6 * np.exp(-19 / 8) * (1 - np.exp(-10 / 8)), abs=0.01)
    assert found.epochs_to_plateau == pytest.approx(8 * np.log(20) - 19, abs=4)


def test_approach_is_none_for_a_curve_that_rises_or_is_short():
    assert approach([0.5, 0.4, 0.3, 0.25, 0.2], 5) is None
    assert approach(0.8 - 0.6 * np.exp(-np.arange(20) / 5.0), 5) is None


def test_classic_rule_names_variance_and_improvement_of_the_last_five():
    found = classic_plateau([0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert found.last_losses == (0.5, 0.4, 0.3, 0.2, 0.1)
    assert (found.variance, found.improvement) == pytest.approx((0.02, 0.4))
    assert (found.is_due, found.is_plateau) == (False, False)


@pytest.mark.parametrize(("epochs", "due"), [(10, False), (11, True), (12, False), (21, True), (31, True)])
def test_classic_rule_looks_every_ten_epochs_from_the_eleventh(epochs, due):
    found = classic_plateau([0.5] * epochs)
    assert (found.is_due, found.is_plateau) == (due, True)


def test_classic_rule_needs_five_epochs():
    assert not classic_plateau([0.5] * 4).is_plateau
