"""What `measurements.py` says of pairs, and what it draws."""

from __future__ import annotations

import numpy as np
import pytest
from bland_altman import compare, drawn
from measurements import DRAWN, agreement_table, panels

from octa_backend.inference.measurements import QUANTITIES
from tests.benchmarks.records import cells

PAIRS = [(1.0, 2.0), (2.0, 3.0), (3.0, 5.0), (None, 1.0), (4.0, None), (None, None)]


def found(pairs):
    return {"pairs": dict.fromkeys(QUANTITIES, pairs), "units": dict.fromkeys(QUANTITIES, "px²")}


def test_bias_and_limits_of_agreement_are_those_of_the_formulas():
    agreement = compare(PAIRS)
    assert agreement is not None
    assert agreement.left_out == 3
    assert agreement.bias == pytest.approx(4 / 3)  # differences 1, 1, 2
    assert agreement.limits == pytest.approx((4 / 3 - 1.96 / 3**0.5, 4 / 3 + 1.96 / 3**0.5))
    assert agreement.correlation == pytest.approx(np.corrcoef([1, 2, 3], [2, 3, 5])[0, 1])


def test_numbers_that_never_change_have_no_correlation():
    agreement = compare([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)])
    assert agreement is not None
    assert agreement.correlation is None


def test_too_few_pairs_are_not_compared():
    assert compare(PAIRS[1:]) is None
    row = cells(agreement_table(found(PAIRS[1:])), 0)
    assert (row["Scans"], row["Not measured"], row["Bias"]) == ("2", "3", "–")


def test_the_table_has_every_measurement_but_the_zones():
    text = agreement_table(found(PAIRS))
    assert cells(text, 0)["Measurement"] == "`vessel_area_density`"
    assert (cells(text, 0)["Bias"], cells(text, 0)["Limits of agreement"]) == ("1.33", "0.202 … 2.46")
    assert "etdrs" not in text


def test_every_panel_shows_its_scans():
    known = panels(found(PAIRS))
    assert len(known) == len(DRAWN)
    picture = np.asarray(drawn(known))
    assert picture.shape == (4 * 330, 3 * 460, 3)
    blue = (picture == (10, 132, 255)).all(axis=2)
    assert blue.reshape(4, 330, 3, 460).any(axis=(1, 3)).all()
