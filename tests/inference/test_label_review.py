from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.label_review import Labelled, compare, review
from octa_backend.training.ignored import IGNORED


class SureOfTheLeftHalf:
    """A predictor that is sure of foreground in the left half of every scan, and of background elsewhere."""

    spatial_dims = 2

    def foreground(self, image, spacing_mm):
        probability = np.full(image.shape[1:], 0.02, np.float32)
        probability[:, : image.shape[2] // 2] = 0.98
        return probability


def mask(columns: slice) -> np.ndarray:
    drawn = np.zeros((4, 4), np.uint8)
    drawn[:, columns] = 1
    return drawn


def test_only_what_the_model_is_sure_of_counts():
    probability = np.array([[0.95, 0.85, 0.05, 0.15]], np.float32)
    found = compare("a", probability, np.array([[0, 0, 1, 2]]))
    # 4 pixels are foreground for mask or model; of two missed ones one is sure, of two extra ones one is sure
    assert (found.missed_fraction, found.extra_fraction, found.disagreement) == (0.25, 0.25, 0.5)
    assert found.dice == 0


def test_an_empty_mask_and_an_empty_prediction_agree():
    found = compare("a", np.zeros((2, 2), np.float32), np.zeros((2, 2), int))
    assert (found.disagreement, found.dice) == (0, 1)


def test_what_does_not_count_is_neither_missed_nor_extra_nor_marked():
    probability = np.array([[0.95, 0.95, 0.05, 0.05, 0.95]], np.float32)
    found = compare("a", probability, np.array([[1, IGNORED, IGNORED, 1, 0]]))
    # of the three pixels that count one agrees, one is extra and one is missed
    assert (found.missed_fraction, found.extra_fraction) == pytest.approx((1 / 3, 1 / 3))
    assert found.dice == 0.5


def test_a_mask_of_nothing_but_the_ignored_class_contradicts_nobody():
    found = compare("a", np.ones((2, 2), np.float32), np.full((2, 2), IGNORED))
    assert (found.disagreement, found.dice) == (0, 1)


def test_the_most_suspicious_scan_comes_first():
    masks = {"right": mask(slice(0, 2)), "wrong": mask(slice(2, 4)), "half": mask(slice(1, 3))}
    image, seen = np.zeros((1, 4, 4), np.uint8), []
    scans = (Labelled(name, image, drawn) for name, drawn in masks.items())
    found = review(SureOfTheLeftHalf(), scans, progress=lambda: seen.append(1))
    assert [one.scan for one in found] == ["wrong", "half", "right"]
    assert [one.disagreement for one in found] == pytest.approx([1.0, 2 / 3, 0.0])
    assert [one.dice for one in found] == pytest.approx([0.0, 0.5, 1.0])
    assert len(seen) == 3


@pytest.mark.parametrize(("ignore_index", "disagreement"), [(None, 1), (2, 0), (3, 1)])
def test_pixels_of_the_ignored_class_are_left_out(ignore_index, disagreement):
    scan = Labelled("a", np.zeros((1, 4, 4), np.uint8), 2 * mask(slice(2, 4)) + mask(slice(0, 2)))
    (found,) = review(SureOfTheLeftHalf(), [scan], ignore_index)
    assert found.extra_fraction == disagreement / 2
