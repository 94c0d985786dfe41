from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from octa_backend.data.store import ScanEntry
from octa_backend.data.volume_geometry import VolumeGeometry
from octa_backend.inference.distribution import outliers
from octa_backend.inference.volume_distribution import spacing_of_file, summarise_volumes, volume_features

SPACING = (2.0, 1.0, 1.0)
HOW = "zscore_nonzero"


def body(seed, scale=1000.0):
    """A drawn organ, (1, D, H, W): smooth tissue with brighter parts, of which each is a little different; 0 around."""
    random = np.random.default_rng(seed)
    shape = tuple(int(side) for side in random.integers((20, 36, 36), (26, 46, 46)))
    grid = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    tissue = 1 + 0.15 * random.standard_normal(shape) + gaussian_filter(random.standard_normal(shape), 3) * 3
    bright = sum((axis - at) ** 2 for axis, at in zip(grid, random.uniform(-0.4, 0.4, 3), strict=True)) < 0.15
    inside = sum(axis**2 for axis in grid) < 1.1
    return (scale * np.clip(tissue + 1.5 * bright, 0.05, None) * inside).astype(np.float32)[None]


def statistics_of(count, how=HOW, spacing=SPACING):
    found = (volume_features(body(seed), how, spacing) for seed in range(count))
    return json.loads(json.dumps(summarise_volumes(found, 1, how)))


@pytest.fixture(scope="module", params=["zscore_nonzero", "unit", "percentile"])
def trained(request):
    """A normalisation and the statistics of twelve volumes."""
    return request.param, statistics_of(12, request.param)


def names(image, how, statistics, spacing=SPACING):
    return [one.feature for one in outliers(volume_features(image, how, spacing), statistics)]


def test_the_numbers_of_a_volume_by_hand():
    image = np.zeros((1, 4, 8, 2), np.uint8)
    image[..., 1] = 255
    found = volume_features(image, "unit", (4.0, 1.0, 2.0))
    assert (found["empty"], found["low"], found["high"]) == (1, 0, 0)  # the last voxels are but neighbours
    assert (found["size"], found["spacing"], found["anisotropy"]) == pytest.approx((2, 1, 2))
    image = np.zeros((1, 5, 5, 5), np.uint8)
    image[0, :, 1::2] = 51
    found = volume_features(image, "unit", ())
    assert (found["empty"], found["low"], found["middle"], found["high"]) == pytest.approx((0.5, 0.2, 0.2, 0.2))
    assert found["sharpness"] == pytest.approx(math.log(0.04 / 3 / 0.01))
    assert found["skewness"] == pytest.approx(0, abs=0.1)
    assert "spacing" not in found
    image[0, :, 3] = 255
    assert volume_features(image, "unit", ())["skewness"] == pytest.approx((0.2 + 1 - 2 * 0.6) / 0.4, abs=1e-5)


def test_an_empty_and_a_flat_volume_have_numbers_too():
    for image in (np.zeros((2, 6, 7, 8), np.float32), np.full((2, 1, 7, 8), 9, np.uint16)):
        assert all(math.isfinite(value) for value in volume_features(image, HOW, SPACING).values())


def test_similar_volumes_are_not_warned_about(trained):
    how, statistics = trained
    assert [names(body(seed), how, statistics) for seed in range(12, 36)] == [[]] * 24
    assert names(body(50, scale=37.0), how, statistics) == []  # another scanner's scale means nothing


@pytest.mark.parametrize(
    ("change", "spacing", "among"),
    [
        (lambda image: image.max() - image, SPACING, "empty"),
        (
            lambda image: (500 + np.random.default_rng(1).normal(0, 1, image.shape)).astype(np.float32),
            SPACING,
            "sharpness",
        ),
        (lambda image: image, (20.0, 10.0, 10.0), "spacing"),
        (lambda image: image, (0.2, 0.1, 0.1), "spacing"),
        (lambda image: image, (10.0, 0.5, 0.5), "anisotropy"),
        (lambda image: gaussian_filter(image, (0, 3, 3, 3)), SPACING, "sharpness"),
        (lambda image: image.repeat(4, 1).repeat(4, 2).repeat(4, 3), SPACING, "size"),
    ],
)
def test_other_volumes_are_warned_about(trained, change, spacing, among):
    how, statistics = trained
    assert among in names(change(body(60)), how, statistics, spacing)


def test_few_training_volumes_tell_a_voxel_ten_times_as_long_all_the_same():
    statistics = statistics_of(3)
    assert names(body(60), HOW, statistics) == []
    assert "spacing" in names(body(60), HOW, statistics, (20.0, 10.0, 10.0))


def test_each_modality_is_looked_at_by_itself():
    def pair(seed):
        image = body(seed)
        return np.concatenate([image, gaussian_filter(image, (0, 3, 3, 3))])

    statistics = summarise_volumes((volume_features(pair(seed), HOW, SPACING) for seed in range(8)), 2, HOW)
    assert names(pair(60), HOW, statistics) == []
    assert {"sharpness_0000", "sharpness_0001"} <= set(names(pair(60)[::-1], HOW, statistics))


def test_the_voxel_size_of_a_training_volume_is_that_of_its_file():
    geometry = VolumeGeometry((40, 30, 20), ((2.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 4.0, 0), (0, 0, 0, 1)), "RAS")
    entry = ScanEntry("v", None, None, (20, 30, 40), "uint8", 0, 0, (4.0, 1.0, 2.0), geometry)
    assert spacing_of_file(entry) == (4, 1, 2)
    resampled = replace(geometry, resampled_shape=(80, 30, 80), resampled_spacing_mm=(1.0, 1.0, 1.0))
    assert spacing_of_file(replace(entry, spacing_mm=(1.0, 1.0, 1.0), geometry=resampled)) == (4, 1, 2)
    assert spacing_of_file(replace(entry, geometry=replace(geometry, orientation=""))) == ()
    assert spacing_of_file(replace(entry, geometry=None)) == ()


def test_of_a_file_that_knows_no_voxel_size_it_is_not_judged():
    assert names(body(60), HOW, statistics_of(8), ()) == []
    assert "spacing" not in statistics_of(2, spacing=())["features"]
    assert names(body(60), HOW, statistics_of(8, spacing=()), (20.0, 10.0, 10.0)) == []
