from __future__ import annotations

import pytest
import torch

from octa_backend.training.metrics import ScanScore, mean_of_classes, mean_per_class, mean_score, score_classes

EMPTY = [[0, 0], [0, 0]]
PERFECT = ScanScore(dice=1.0, iou=1.0, precision=1.0, recall=1.0)
NOTHING = ScanScore(dice=0.0, iou=0.0, precision=0.0, recall=0.0)


def score(predicted, target, classes=2):
    return mean_of_classes(score_classes(torch.tensor(predicted), torch.tensor(target), classes))


def test_overlap_by_hand():
    # 2 pixels hit, 4 found, 3 true
    found = score([[1, 1, 1, 1], [0, 0, 0, 0]], [[1, 1, 0, 0], [1, 0, 0, 0]])
    assert found.dice == pytest.approx(2 * 2 / (4 + 3))
    assert found.iou == pytest.approx(2 / 5)
    assert found.precision == pytest.approx(2 / 4)
    assert found.recall == pytest.approx(2 / 3)


def test_the_right_mask_scores_1():
    assert score([[1, 0], [0, 1]], [[1, 0], [0, 1]]) == PERFECT


def test_masks_that_do_not_touch_score_0():
    assert score([[1, 0], [0, 0]], [[0, 0], [0, 1]]) == NOTHING


def test_two_empty_masks_agree():
    assert score(EMPTY, EMPTY) == PERFECT


def test_empty_prediction_of_a_full_mask_scores_0():
    assert score(EMPTY, [[1, 1], [1, 1]]) == NOTHING


def test_one_false_vessel_pixel_in_an_empty_scan_costs_everything():
    assert score([[0, 0], [0, 1]], EMPTY) == NOTHING


def test_background_does_not_count():
    assert score([[0, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]).dice == 0


def test_classes_are_averaged():
    # class 1: 1 hit of 1 found and 2 true; class 2: 1 hit of 2 found and 1 true
    found = score([[1, 2], [2, 0]], [[1, 2], [1, 0]], classes=3)
    assert found.dice == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found.precision == pytest.approx((1 + 1 / 2) / 2)
    assert found.recall == pytest.approx((1 / 2 + 1) / 2)


def test_class_that_neither_mask_holds_is_left_out():
    assert score([[1, 0], [0, 0]], [[1, 0], [0, 0]], classes=5) == PERFECT


def test_class_that_only_one_mask_holds_costs():
    # class 1 right, class 2 missed, class 3 invented, class 4 in neither
    assert score([[1, 0], [3, 0]], [[1, 2], [0, 0]], classes=5).dice == pytest.approx(1 / 3)


def test_volumes_are_scored_like_images():
    mask = torch.zeros(2, 3, 4, dtype=torch.int64)
    mask[0] = 1
    assert mean_of_classes(score_classes(mask, mask, 2)) == PERFECT


def test_masks_of_different_shape_are_refused_though_they_would_broadcast():
    with pytest.raises(ValueError, match=r"the prediction is \(1, 2\) but the mask is \(2, 2\)"):
        score([[1, 0]], EMPTY)


def test_mean_score_is_the_mean_of_each_metric():
    first = ScanScore(dice=0.5, iou=0.25, precision=1.0, recall=0.0)
    second = ScanScore(dice=1.0, iou=0.75, precision=0.5, recall=0.5)
    assert mean_score([first, second]) == ScanScore(dice=0.75, iou=0.5, precision=0.75, recall=0.25)


def test_each_class_is_averaged_over_the_scans_that_have_it():
    half = score_classes(torch.tensor([[1, 1, 0]]), torch.tensor([[1, 0, 0]]), 4)
    missed = score_classes(torch.tensor([[0, 0]]), torch.tensor([[0, 2]]), 4)
    assert mean_per_class([half, missed]) == [
        {"class": 1, "dice": pytest.approx(2 / 3), "iou": 0.5, "scans": 1},
        {"class": 2, "dice": 0.0, "iou": 0.0, "scans": 1},
        {"class": 3, "dice": None, "iou": None, "scans": 0},
    ]
