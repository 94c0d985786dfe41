from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.label_review import compare, review


class SureOfTheLeftHalf:
    """A predictor that is sure of foreground in the left half of every scan, and of background elsewhere."""

    def predict(self, image):
        probability = np.full(image.shape[1:], 0.02, np.float32)
        probability[:, : image.shape[2] // 2] = 0.98
        return type("Prediction", (), {"probability": probability})()


def mask(columns: slice) -> np.ndarray:
    drawn = np.zeros((4, 4), np.uint8)
    drawn[:, columns] = 1
    return drawn


def test_only_what_the_model_is_sure_of_counts():
    probability = np.array([[0.95, 0.85, 0.05, 0.15]], np.float32)
    found = compare("a", probability, np.array([[False, False, True, True]]))
    # 4 pixels are foreground for mask or model; of two missed ones one is sure, of two extra ones one is sure
    assert (found.missed_fraction, found.extra_fraction, found.disagreement) == (0.25, 0.25, 0.5)
    assert found.dice == 0


def test_an_empty_mask_and_an_empty_prediction_agree():
    found = compare("a", np.zeros((2, 2), np.float32), np.zeros((2, 2), bool))
    assert (found.disagreement, found.dice) == (0, 1)


def test_the_most_suspicious_scan_comes_first():
    masks = {"right": mask(slice(0, 2)), "wrong": mask(slice(2, 4)), "half": mask(slice(1, 3))}
    image, seen = np.zeros((1, 4, 4), np.uint8), []
    scans = ((name, image, drawn > 0) for name, drawn in masks.items())
    found = review(SureOfTheLeftHalf(), scans, lambda: seen.append(1))
    assert [one.scan for one in found] == ["wrong", "half", "right"]
    assert [one.disagreement for one in found] == pytest.approx([1.0, 2 / 3, 0.0])
    assert [one.dice for one in found] == pytest.approx([0.0, 0.5, 1.0])
    assert len(seen) == 3
