from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from octa_backend.errors import MaskDoesNotFit
from octa_backend.inference.difference_picture import INVENTED, MISSED, MIXED_UP, RIGHT, difference_picture
from octa_backend.inference.mask_evaluation import classes_of_mask, evaluate_mask
from octa_backend.training.ignored import IGNORED
from octa_backend.training.scan_metrics import Scale, measure_scan
from octa_backend.training.skeleton import cldice

NAMES = ("dice", "iou", "precision", "recall", "cldice")


def test_a_small_mask_by_hand():
    found = evaluate_mask(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 1]]), 2)
    assert (found.mean.dice, found.mean.iou) == (2 / 5, 1 / 4)
    assert (found.mean.precision, found.mean.recall) == (1 / 2, 1 / 3)
    assert found.classes == (found.mean,)
    assert found.counted_fraction == 1


def test_the_numbers_are_those_of_an_evaluation():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, (40, 30)).repeat(2, 0)
    target[:7] = IGNORED
    predicted = np.where(rng.random(target.shape) < 0.7, target.clip(min=0), rng.integers(0, 3, target.shape))
    found = evaluate_mask(predicted, target, 3)
    cut = np.where(target == IGNORED, 0, predicted)
    reference = measure_scan(cut, target, np.zeros((3, *target.shape), np.float32), Scale.of(2, (), None))
    for ours, theirs in zip((found.mean, *found.classes), (reference.overall, *reference.classes), strict=True):
        assert asdict(ours) == {name: pytest.approx(getattr(theirs, name)) for name in NAMES}
    assert found.classes[0].cldice == cldice(cut == 1, target == 1)
    assert found.counted_fraction == 73 / 80


def test_a_class_that_neither_mask_holds_counts_for_nothing_and_two_empty_masks_agree():
    found = evaluate_mask(np.array([[2, 0]]), np.array([[2, 0]]), 4)
    assert [score is None for score in found.classes] == [True, False, True]
    assert found.mean.dice == 1
    assert asdict(evaluate_mask(np.zeros((2, 2), int), np.zeros((2, 2), int), 2).mean) == dict.fromkeys(NAMES, 1.0)


def test_where_no_pixel_counts_there_is_nothing_to_agree_on():
    blank = evaluate_mask(np.ones((2, 2), int), np.full((2, 2), IGNORED), 3)
    assert (blank.mean, blank.classes, blank.counted_fraction) == (None, (None, None), 0)
    one = np.full((2, 2), IGNORED)
    one[0, 0] = 0
    assert evaluate_mask(np.zeros((2, 2), int), one, 3).mean.dice == 1


def test_masks_of_other_shapes_are_a_bug():
    with pytest.raises(ValueError, match="the prediction is"):
        evaluate_mask(np.zeros((2, 2), int), np.zeros((1, 2), int), 2)


@pytest.mark.parametrize("high", [1, 255, 7, 65535])
def test_of_two_classes_foreground_is_whatever_is_not_0(high):
    assert classes_of_mask(np.array([[0, high]]), "m.png", (0, 255), 2).tolist() == [[0, 1]]


def test_of_several_classes_the_dataset_says_what_values_mean_or_they_are_class_numbers():
    assert classes_of_mask(np.array([[0, 5, 9]]), "m.png", (0, 5, 9), 3).tolist() == [[0, 1, 2]]
    assert classes_of_mask(np.array([[0, 1, 2]]), "m.png", (0, 5, 9), 3).tolist() == [[0, 1, 2]]
    assert classes_of_mask(np.array([[0, 1, 2]]), "m.png", (), 3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("values", "mask_values", "classes", "told"),
    [
        ([0, 1, 255], (0, 255), 2, "m.png has the values 3: 0, 1, 255; .* 0 and one other value"),
        (
            [0, 5, 255],
            (0, 5, 9),
            3,
            "m.png has the values 3: 0, 5, 255; the masks of this model have 0, 5, 9 or 0, 1, 2",
        ),
        ([0, 3], (), 3, "have 0, 1, 2$"),
        ([-1, 0], (0, 1, 2), 3, "have 0, 1, 2$"),
    ],
)
def test_other_values_are_refused_with_what_was_found_and_what_fits(values, mask_values, classes, told):
    with pytest.raises(MaskDoesNotFit, match=told):
        classes_of_mask(np.array([values]), "m.png", mask_values, classes)


def test_the_picture_colours_what_is_right_missed_invented_and_mixed_up():
    predicted = np.array([[1, 0, 1, 2, 0, 1]])
    target = np.array([[1, 1, 0, 1, 0, IGNORED]])
    drawn = difference_picture(np.ones((1, 1, 6), np.float32), predicted, target)
    as_text = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in drawn[0].tolist()]
    assert as_text == [RIGHT, MISSED, INVENTED, MIXED_UP, "#7f7f7f", "#7f7f7f"]
