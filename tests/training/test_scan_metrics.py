from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from octa_backend.training.evaluation_html import to_html
from octa_backend.training.evaluation_report import read_scans
from octa_backend.training.ignored import IGNORED
from octa_backend.training.metrics import mean_of_classes, score_classes
from octa_backend.training.scan_metrics import METRICS, ClassMetrics, Scale, mean_metrics, measure_scan
from tests.drawn import drawn
from tests.reports import metrics, report, scan

PIXELS = Scale.of(2, (), None)


def sure(predicted, classes):
    """Probabilities (K, *spatial) of a network that is sure of its answer."""
    return np.stack([predicted == index for index in range(classes)]).astype(np.float32)


def measure(predicted, target, classes=2, scale=PIXELS):
    predicted, target = np.asarray(predicted, np.uint8), np.asarray(target, np.uint8)
    return measure_scan(predicted, target, sure(predicted, classes), scale)


def test_every_metric_of_one_scan_by_hand():
    found = measure(drawn("###..", "....."), drawn(".####", ".....")).overall
    assert found.dice == pytest.approx(2 * 2 / 7)
    assert found.iou == pytest.approx(2 / 5)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 4)
    assert found.specificity == pytest.approx(5 / 6)
    # 24 pairs of a marked and an unmarked pixel: 2·5 right, 2·1 and 2·5 ties, 2·1 wrong
    assert found.auc == pytest.approx((10 + 6) / 24)
    # distances 1, 0, 0 and 0, 0, 1, 2
    assert found.hd95 == pytest.approx(1.85)
    assert found.assd == pytest.approx(4 / 7)
    assert found.surface_dice == pytest.approx(6 / 7)
    assert found.cldice == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


AGREE = {"dice": 1, "iou": 1, "precision": 1, "recall": 1, "surface_dice": 1, "cldice": 1}
NOTHING = dict.fromkeys(AGREE, 0)
UNDEFINED = {"auc": None, "hd95": None, "assd": None}


@pytest.mark.parametrize(
    ("predicted", "target", "expected"),
    [
        ("..", "..", {**AGREE, **UNDEFINED, "specificity": 1}),
        ("..", ".#", {**NOTHING, **UNDEFINED, "specificity": 1, "auc": 0.5}),
        (".#", "..", {**NOTHING, **UNDEFINED, "specificity": 0.5}),
        ("..", "##", {**NOTHING, **UNDEFINED, "specificity": None}),
        ("##", "..", {**NOTHING, **UNDEFINED, "specificity": 0}),
        ("##", "##", {**AGREE, "specificity": None, "auc": None, "hd95": 0, "assd": 0}),
    ],
    ids=["both empty", "found none", "invented", "missed a full one", "filled an empty one", "both full"],
)
def test_empty_and_full_masks_score_as_documented(predicted, target, expected):
    found = measure(drawn(predicted, predicted), drawn(target, target)).overall
    assert {name: getattr(found, name) for name in PIXELS.metrics} == expected


def test_overlap_is_that_of_the_trainings_validation():
    generator = np.random.default_rng(0)
    predicted, target = generator.integers(0, 4, (2, 9, 8))
    ours = measure(predicted, target, classes=5).overall
    theirs = mean_of_classes(score_classes(torch.from_numpy(predicted), torch.from_numpy(target), 5))
    for name in ("dice", "iou", "precision", "recall"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name))


def test_a_class_that_neither_mask_holds_is_left_out():
    found = measure([[1, 0], [3, 0]], [[1, 2], [0, 0]], classes=5)
    assert [None if one is None else one.dice for one in found.classes] == [1, 0, 0, None]
    assert found.overall.dice == pytest.approx(1 / 3)
    assert found.overall.hd95 == 0  # of class 1 alone; those of 2 and 3 are not defined


def test_a_scan_without_any_class_agrees_but_says_nothing_of_a_class():
    found = measure(np.zeros((3, 3)), np.zeros((3, 3)), classes=4)
    assert found.classes == (None, None, None)
    assert (found.overall.dice, found.overall.hd95) == (1, None)


def test_a_volume_that_agrees_with_its_mask_is_right_in_every_way():
    mask = np.zeros((3, 4, 5))
    mask[1] = 1
    found = measure(mask, mask, scale=Scale.of(3, (), None)).overall
    assert (found.dice, found.hd95, found.surface_dice, found.auc, found.cldice) == (1, 0, 1, 1, 1)


def test_the_mean_leaves_out_what_is_not_defined():
    values = dict.fromkeys(METRICS, 0.5)
    one, two = ClassMetrics(**{**values, "hd95": None, "auc": None}), ClassMetrics(**{**values, "auc": None, "dice": 1})
    mean = mean_metrics([one, two])
    assert (mean.dice, mean.hd95, mean.auc) == (0.75, 0.5, None)


def test_the_scale_is_one_pixel_or_what_was_given():
    assert Scale.of(2, (), None) == Scale((1.0, 1.0), 1.0, "px")
    assert Scale.of(3, (), 2.0) == Scale((1.0, 1.0, 1.0), 2.0, "px")
    assert Scale.of(2, (9.5,), None) == Scale((9.5, 9.5), 9.5, "µm")
    assert Scale.of(3, (11.0, 4.0, 4.0), 5.0) == Scale((11.0, 4.0, 4.0), 5.0, "µm")


@pytest.mark.parametrize("sides", [(0.0,), (-1.0,), (float("inf"),), (float("nan"),), (1.0, 2.0, 3.0)])
def test_lengths_that_do_not_fit_are_refused(sides):
    with pytest.raises(ValueError, match="give one length above 0, or one for each of 2 axes"):
        Scale.of(2, sides, None)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_negative_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="the tolerance is"):
        Scale.of(2, (), tolerance)


def test_lengths_follow_the_scale():
    one, other = drawn("#...", "...."), drawn("...#", "....")
    found = measure(one, other, scale=Scale.of(2, (2.0,), 6.0)).overall
    assert (found.hd95, found.assd, found.surface_dice) == (6, 6, 1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"the prediction is \(1, 2\) .* but the mask is \(2, 2\)"):
        measure([[1, 0]], [[1, 0], [0, 0]])


@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5)])
@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_is_defined_of_a_scan_without_a_pixel_that_counts(shape, classes):
    scale = Scale((1.0,) * len(shape), 1.0, "px")
    target, nothing = np.full(shape, IGNORED), np.zeros(shape, np.uint8)
    found = measure_scan(nothing, target, sure(nothing, classes), scale, {"all": tuple(range(1, classes))})
    assert asdict(found.overall) == dict.fromkeys(METRICS)
    assert found.classes == ((found.overall,) if classes == 2 else (None, None))
    assert found.regions == {"all": None}
    target.flat[0] = 0
    assert measure_scan(nothing, target, sure(nothing, classes), scale).overall.dice == 1


def test_a_report_leaves_out_scans_without_a_pixel_that_counts():
    blank = scan("blank", metrics(None))
    made = report(scan("good", metrics(0.75)), blank, scan("bad", metrics(0.25)))
    dice = made.summary["dice"]
    assert (dice.mean, dice.scans, dice.undefined) == (0.5, 2, 1)
    assert made.worst == ("bad", "good")
    assert read_scans(json.loads(made.to_json()))[1] == blank
    assert "blank" in to_html(made, [])
    alone = report(blank)
    assert (set(alone.summary.values()), alone.worst) == ({None}, ())
    assert "blank" in to_html(alone, [])
