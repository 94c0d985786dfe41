from __future__ import annotations

import math

import numpy as np
import pytest

from octa_backend.training.bootstrap import mean_interval


def test_one_scan_shows_no_spread():
    assert mean_interval([]) is None
    assert mean_interval([0.8]) is None


def test_equal_scans_have_an_interval_of_no_width():
    assert mean_interval([0.75] * 4) == (0.75, 0.75)


def test_two_scans_by_hand():
    # the mean of two draws from 0 and 1 is 0, ½, ½ or 1 with equal chance: 30 to 70 % of them are ½, 2.5 to 97.5 % all
    assert mean_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)
    assert mean_interval([0.0, 1.0], confidence=0.95) == (0.0, 1.0)


def test_many_scans_come_near_the_normal_interval():
    values = np.random.default_rng(0).normal(0.8, 0.05, 400)
    half = 1.96 * values.std() / math.sqrt(400)
    found = mean_interval(values.tolist())
    assert found.low == pytest.approx(values.mean() - half, abs=half / 10)
    assert found.high == pytest.approx(values.mean() + half, abs=half / 10)


def test_the_seed_decides():
    values = [0.1, 0.5, 0.6, 0.9]
    assert mean_interval(values, resamples=50, seed=1) == mean_interval(values, resamples=50, seed=1)
    assert mean_interval(values, resamples=50, seed=1) != mean_interval(values, resamples=50, seed=2)


def test_as_many_resamples_are_drawn_as_asked_for():
    low, high = mean_interval([0.2, 0.4, 0.9], resamples=1)
    assert low == high
    assert mean_interval([0.2, 0.4], resamples=1500) == pytest.approx((0.2, 0.4))
