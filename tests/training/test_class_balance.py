from __future__ import annotations

import numpy as np
import pytest

from octa_backend.training.class_balance import class_pixels, foreground_weight, inverse_frequencies
from tests.tiny import write_store


def test_pixels_are_counted_in_the_named_scans_only(tmp_path):
    image = np.zeros((1, 2, 3), np.uint8)
    masks = [np.array(rows, np.uint8) for rows in ([[0, 0, 7], [7, 9, 9]], [[0, 0, 0], [0, 0, 7]], [[9] * 3] * 2)]
    store = write_store(tmp_path, [(image, mask) for mask in masks], mask_values=(0, 7, 9))
    assert class_pixels(store, (0, 1)) == (7, 3, 2)
    assert class_pixels(store, (2,)) == (0, 0, 6)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [((90, 10), 9.0), ((50, 50), 1.0), ((2, 1), 2.0), ((20, 80), 0.25), ((100_000, 3), 100.0), ((10, 0), 10.0)],
)
def test_foreground_weight_is_background_over_foreground_within_bounds(pixels, expected):
    assert foreground_weight(pixels) == expected


def test_inverse_frequencies_make_all_classes_weigh_alike():
    # 100 / (3 * 80), 100 / (3 * 15), 100 / (3 * 5), to four digits
    weights = inverse_frequencies((80, 15, 5))
    assert weights == (0.4167, 2.222, 6.667)
    assert [weight * count for weight, count in zip(weights, (80, 15, 5), strict=True)] == pytest.approx(
        [100 / 3] * 3, rel=1e-3
    )


def test_weights_of_rare_and_absent_classes_are_bounded():
    assert inverse_frequencies((10_000_000, 10, 0)) == (0.3333, 100.0, 100.0)
