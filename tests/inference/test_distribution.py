from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from octa_backend.data.synthetic import make_scan
from octa_backend.inference.distribution import SMALLEST_SPREAD, Outlier, features_of, outliers, summarise


def scans(count, seed=0):
    return [make_scan(96, np.random.default_rng(seed + number)).image[None] for number in range(count)]


@pytest.fixture(scope="module")
def statistics():
    return json.loads(json.dumps(summarise(map(features_of, scans(12)))))


def names(image, statistics):
    return [one.feature for one in outliers(features_of(image), statistics)]


def test_the_numbers_of_a_picture_by_hand():
    image = np.zeros((1, 8, 32), np.uint8)
    image[:, :, 16:] = 255
    found = features_of(image)
    expected = {"mean": 0.5, "deviation": 0.5, "low": 0, "high": 1, "skewness": 0, "entropy": 1, "colour": 0, "size": 4}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["sharpness"] == pytest.approx(math.log(2 / 30 / 0.25))  # -1 and 1 in one column each of the inner 30
    assert list(found) == list(SMALLEST_SPREAD)


def test_a_constant_picture_has_numbers_too():
    assert all(math.isfinite(value) for value in features_of(np.full((3, 20, 30), 7, np.uint8)).values())


def test_colour_is_the_distance_of_the_channels_and_size_that_of_the_sides():
    image = np.zeros((3, 40, 160), np.uint8)
    image[0] = 51
    assert features_of(image)["colour"] == pytest.approx(0.2)
    assert features_of(image)["size"] == pytest.approx(math.log2(80))


def test_a_range_is_that_of_the_training_scans_and_never_too_narrow():
    (name, found), *_ = summarise([{**dict.fromkeys(SMALLEST_SPREAD, 0.0), "mean": n / 100} for n in range(101)])[
        "features"
    ].items()
    assert name == "mean"
    assert found == pytest.approx({"median": 0.5, "low": 0.01, "high": 0.99, "spread": 1.4826 * 0.25})
    one = summarise([dict.fromkeys(SMALLEST_SPREAD, 3.0)])
    assert one["scans"] == 1
    assert {name: range_["spread"] for name, range_ in one["features"].items()} == dict(SMALLEST_SPREAD)


def test_scans_of_the_same_kind_are_not_warned_about(statistics):
    assert [names(image, statistics) for image in scans(12)] == [[]] * 12
    assert [names(image, statistics) for image in scans(12, seed=100)] == [[]] * 12


@pytest.mark.parametrize(
    ("change", "among"),
    [
        (lambda image: 255 - image, "mean"),
        (lambda image: gaussian_filter(image, (0, 4, 4)), "sharpness"),
        (lambda image: image // 8, "high"),
        (lambda image: np.concatenate([image, image // 4, image // 8]), "colour"),
        (lambda image: image.repeat(5, 1).repeat(5, 2), "size"),
    ],
)
def test_other_scans_are_warned_about_with_value_and_range(statistics, change, among):
    image = change(scans(1, seed=100)[0])
    assert among in names(image, statistics)
    for one in outliers(features_of(image), statistics):
        assert not one.low <= one.value <= one.high


def test_the_furthest_comes_first_and_unknown_numbers_are_not_judged():
    range_ = {"median": 0, "low": 0, "high": 0, "spread": 1}
    statistics = {"scans": 8, "features": dict.fromkeys(("mean", "low", "new"), range_)}
    assert [one.feature for one in outliers({"mean": 5.0, "low": -9.0}, statistics)] == ["low", "mean"]
    assert outliers({"mean": 4.0, "low": -4.0}, statistics) == []
    assert outliers({"mean": 4.0}, {**statistics, "scans": 800}) == [Outlier("mean", 4.0, -2.02, 2.02)]
