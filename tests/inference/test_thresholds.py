from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from octa_backend.errors import InvalidOptions, NoTunedThreshold
from octa_backend.inference.thresholds import Threshold, otsu, settle

TWO_GROUPS = np.array([[0.1, 0.12, 0.11], [0.3, 0.32, 0.31]], np.float32)


def test_a_number_is_taken_as_it_is():
    assert settle(0.3, TWO_GROUPS, True, [0.4]) == Threshold(0.3, "fixed")
    assert settle(0.3, TWO_GROUPS, False, [None]) == Threshold(0.3, None)


def test_the_tuned_one_is_the_mean_of_the_models():
    assert settle("tuned", TWO_GROUPS, True, [0.4]) == Threshold(0.4, "tuned")
    assert settle("tuned", TWO_GROUPS, True, [0.4, 0.5]).value == pytest.approx(0.45)


def test_the_automatic_one_separates_the_probabilities_of_the_scan():
    found = settle("auto", TWO_GROUPS, True, [None])
    assert found == Threshold(float(threshold_otsu(TWO_GROUPS)), "auto")
    assert 0.12 <= found.value <= 0.3


@pytest.mark.parametrize("probability", [0.0, 0.7, 1.0])
def test_where_all_probabilities_are_the_same_it_is_one_half(probability):
    assert otsu(np.full((3, 4), probability, np.float32)) == 0.5


def test_a_model_without_a_tuned_threshold_says_so():
    with pytest.raises(NoTunedThreshold, match="this model has no tuned threshold"):
        settle("tuned", TWO_GROUPS, True, [None])
    with pytest.raises(NoTunedThreshold, match="1 of these 2 models have no tuned threshold"):
        settle("tuned", TWO_GROUPS, True, [0.4, None])


@pytest.mark.parametrize("wish", ["tuned", "auto"])
def test_several_classes_have_no_threshold(wish):
    with pytest.raises(InvalidOptions, match=f"threshold={wish} is for models of foreground and background"):
        settle(wish, TWO_GROUPS, False, [0.4])
