from __future__ import annotations

import numpy as np
import pytest

from octa_backend.training.mask_offset import FEWEST_SCANS, MOST_SCANS, MaskOffset, measure_mask_offset
from tests.tiny import synthetic_pairs, write_store


def offset(rows=0.0, columns=0.0, rows_spread=0.0, columns_spread=0.0, scans=20):
    return MaskOffset(rows=rows, columns=columns, rows_spread=rows_spread, columns_spread=columns_spread, scans=scans)


def moved(pairs, rows, columns):
    """The same scans with masks that lie so many pixels further down and to the right."""
    return [(image, np.roll(mask, (rows, columns), (0, 1))) for image, mask in pairs]


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 1), (-2, 0)])
def test_the_offset_of_a_dataset_is_the_mean_of_its_masks(tmp_path, rows, columns):
    store = write_store(tmp_path, moved(synthetic_pairs(8), rows, columns))
    found = measure_mask_offset(store, range(8))
    assert (found.rows, found.columns) == (pytest.approx(rows, abs=0.2), pytest.approx(columns, abs=0.2))
    assert found.scans == 8
    assert found.rows_spread < 0.3


def test_only_the_scans_that_may_be_read_are(tmp_path):
    pairs = synthetic_pairs(8)
    store = write_store(tmp_path, pairs[:4] + moved(pairs[4:], 0, 3))
    assert measure_mask_offset(store, range(4)).columns == pytest.approx(0, abs=0.2)
    assert measure_mask_offset(store, range(4, 8)).columns == pytest.approx(3, abs=0.2)


def test_some_scans_of_a_large_dataset_are_enough(tmp_path):
    store = write_store(tmp_path, synthetic_pairs(2) * 30)
    assert measure_mask_offset(store, range(60)).scans == MOST_SCANS - 4  # every third


def test_an_ignored_class_is_background(tmp_path):
    pairs = synthetic_pairs(4)
    ignored = [(image, np.where(np.roll(mask, 3, 1) > mask, 2, mask).astype(np.uint8)) for image, mask in pairs]
    store = write_store(tmp_path, ignored, mask_values=(0, 1, 2))
    assert measure_mask_offset(store, range(4), ignored=2).columns == pytest.approx(0, abs=0.2)
    assert measure_mask_offset(store, range(4)).columns > 0.5


def test_masks_that_cannot_be_compared_have_no_offset(tmp_path):
    store = write_store(tmp_path, [(image, np.zeros_like(mask)) for image, mask in synthetic_pairs(3)])
    assert measure_mask_offset(store, range(3)) is None


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (offset(), (False, False)),
        (offset(columns=0.085, columns_spread=0.015), (False, True)),
        (offset(columns=-0.085, columns_spread=0.015), (False, True)),
        (offset(rows=0.085, rows_spread=0.015), (True, False)),
        (offset(columns=0.04), (False, False)),
        (offset(columns=0.085, columns_spread=0.03), (False, False)),
        (offset(columns=0.085, columns_spread=0.015, scans=FEWEST_SCANS - 1), (False, False)),
    ],
)
def test_masks_lie_beside_where_practically_all_lie_on_one_side(made, expected):
    assert (made.beside_rows, made.beside_columns) == expected
