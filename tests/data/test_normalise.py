from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data.normalise import Levels, measure, normalise, to_unit, unit_limits


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([100, 150, 300], np.uint16), [0, 0.25, 1]),
        (np.array([-1, 0, 3], np.float32), [0, 0.25, 1]),
        (np.array([7, 7, 7], np.float32), [0, 0, 0]),
        (np.array([51, 51, 51], np.uint8), [0.2, 0.2, 0.2]),
    ],
)
def test_unit_by_hand(image, expected):
    found = to_unit(image)
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_part_of_a_scan_with_its_limits_is_that_part_of_the_scan(dtype):
    image = np.random.default_rng(0).integers(3, 250, (1, 9, 9)).astype(dtype)
    part = to_unit(image[:, 2:5, 3:4], unit_limits(image))
    np.testing.assert_array_equal(part, to_unit(image)[:, 2:5, 3:4])


@pytest.mark.parametrize("shape", [(1, 12, 20), (3, 12, 20), (1, 4, 6, 8)])
def test_zscore_has_mean_0_and_deviation_1_over_all_channels(shape):
    unit = np.random.default_rng(0).random(shape, np.float32) ** 3
    found = normalise(unit, "zscore")
    assert (found.dtype, found.shape) == (np.float32, shape)
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)
    assert float(found.std()) == pytest.approx(1, abs=1e-5)


def test_zscore_by_hand():
    assert normalise(np.array([[0.2, 0.4, 0.6, 0.8]], np.float32), "zscore")[0].tolist() == pytest.approx(
        [-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5]
    )


def test_zscore_of_a_constant_scan_is_0():
    assert normalise(np.full((1, 5, 5), 0.3, np.float32), "zscore").tolist() == np.zeros((1, 5, 5)).tolist()


def test_percentile_stretches_from_the_1st_to_the_99th_and_cuts_off_the_rest():
    unit = (np.arange(101, dtype=np.float32) / 100)[None]
    found = normalise(unit, "percentile")[0]
    assert found[:2].tolist() == [0, 0]
    assert found[99:].tolist() == [1, 1]
    assert found[50] == pytest.approx(0.5)
    assert found[2] == pytest.approx(0.01 / 0.98, rel=1e-4)


def test_percentile_is_not_darkened_by_a_few_very_bright_pixels():
    raw = np.linspace(0, 1000, 10_000, dtype=np.float32).reshape(1, 100, 100)
    hot = raw.copy()
    hot[0, 0, :5] = 1.7e6
    assert np.median(to_unit(hot)) < 0.001
    assert np.median(normalise(to_unit(hot), "percentile")) == pytest.approx(0.5, abs=0.01)


def test_percentile_of_a_scan_without_contrast_is_0():
    assert not normalise(np.full((1, 5, 5), 0.3, np.float32), "percentile").any()


def test_percentile_of_a_scan_with_less_than_a_hundredth_to_see_keeps_that():
    image = np.zeros((1, 64, 64), np.uint8)
    image[0, :4, :8], image[0, 8, :8] = 100, 50
    found = normalise(to_unit(image), "percentile")[0]
    assert [found[row, 0] for row in (0, 8, 16)] == [1, 0.5, 0]


def test_unit_needs_nothing_more():
    unit = np.random.default_rng(0).random((1, 4, 4), np.float32)
    assert normalise(unit, "unit") is unit
    assert measure(unit, "unit") == Levels()


def test_zscore_nonzero_looks_at_each_channel_by_itself_without_the_empty_space():
    rng = np.random.default_rng(0)
    image = np.zeros((2, 8, 16, 16), np.float32)
    image[0, 2:6], image[1, 2:6] = rng.normal(10, 1, (4, 16, 16)), rng.normal(1.7e6, 1e5, (4, 16, 16))
    made = normalise(to_unit(image), "zscore_nonzero")
    for channel in made:
        assert channel[2:6].mean() == pytest.approx(0, abs=1e-3)
        assert channel[2:6].std() == pytest.approx(1, abs=1e-3)
        assert (channel[:2] == channel.min()).all()
    np.testing.assert_allclose(normalise(to_unit(image[:1] * 1000), "zscore_nonzero"), made[:1], atol=1e-2)


def test_zscore_nonzero_cuts_off_a_few_very_bright_voxels():
    image = np.tile(np.arange(1, 101, dtype=np.float32), (1, 10, 1))
    image[0, 0, 0] = 1e6
    assert normalise(to_unit(image), "zscore_nonzero").max() < 3


def test_zscore_nonzero_of_constant_and_two_valued_channels_is_finite():
    image = np.zeros((2, 4, 4), np.uint8)
    image[1, 2:] = 200
    made = normalise(to_unit(image), "zscore_nonzero")
    assert np.isfinite(made).all()
    assert not made[0].any()


def test_a_part_of_a_scan_is_normalised_as_the_whole_is():
    image = np.random.default_rng(0).gamma(2, 100, (2, 6, 8, 8)).astype(np.float32)
    limits = unit_limits(image)
    levels = measure(to_unit(image), "zscore_nonzero")
    part = levels.standardise(levels.stretch(to_unit(image[:, 1:3], limits)))
    np.testing.assert_allclose(part, normalise(to_unit(image), "zscore_nonzero")[:, 1:3], atol=1e-6)
