from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from octa_backend.diagnosis.thresholds import MIDDLE, otsu, threshold_of, thresholds
from tests.diagnosis.scans import drawn, measured


def histogram(**pixels):
    found = np.zeros(256, np.int64)
    for value, count in pixels.items():
        found[int(value.removeprefix("v"))] = count
    return found


def scan(name, values):
    return measured(name, drawn(0)[0], values)


def soft(mask, sigma=1.0):
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(sigma)))


@pytest.mark.parametrize(
    ("pixels", "threshold"),
    [
        ({"v10": 50, "v200": 50}, 105),  # every threshold from 10 to 199 separates them; the middle one
        ({"v10": 90, "v20": 5, "v200": 5}, 110),
        ({"v0": 10, "v50": 10, "v100": 10, "v250": 30}, 175),
        ({"v7": 100}, 0),
    ],
)
def test_otsu_separates_the_two_clearest_classes(pixels, threshold):
    assert otsu(histogram(**pixels)) == threshold


def test_otsu_maximises_the_variance_between_classes():
    counts = np.random.default_rng(0).integers(0, 50, 256)
    values = np.repeat(np.arange(256), counts)
    between = [
        (values <= t).mean() * (values > t).mean() * (values[values <= t].mean() - values[values > t].mean()) ** 2
        for t in range(255)
    ]
    assert otsu(counts) == int(np.argmax(between))


def test_values_at_both_ends_are_cut_in_the_middle():
    assert threshold_of(histogram(v0=80, v60=5, v250=15)) == MIDDLE
    assert threshold_of(histogram(v20=80, v60=5, v150=15)) != MIDDLE


def test_all_8_bit_masks_of_many_values_share_one_threshold():
    found = thresholds([scan(f"{n}", soft(drawn(n)[1], 0.5)) for n in range(3)])
    assert found == {"0": MIDDLE, "1": MIDDLE, "2": MIDDLE}


def test_deep_masks_are_cut_in_their_own_values():
    deep = soft(drawn(0)[1], 0.5).astype(np.uint16) * 257
    assert thresholds([scan("deep", deep), scan("flat", soft(drawn(1)[1], 0.5))]) == {
        "deep": (MIDDLE << 8) + 255,
        "flat": MIDDLE,
    }


def test_masks_that_are_binary_already_are_left_alone_and_other_pairs_of_values_cut_above_0():
    mask = drawn(0)[1]
    scans = [
        scan("0/255", mask),
        scan("0/1", mask // 255),
        scan("0/65535", mask.astype(np.uint16) * 257),
        scan("empty", mask * 0),
        scan("0/100", mask // 255 * 100),
        scan("0/2", mask // 255 * 2),
    ]
    assert thresholds(scans) == {"0/100": 0, "0/2": 0}
