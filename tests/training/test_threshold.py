from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.training.metrics import mean_of_classes, score_classes
from octa_backend.training.threshold import THRESHOLDS, ProbabilityHistogram, pool, tune_threshold


def histogram(probability, target):
    return ProbabilityHistogram.of(np.array(probability, dtype=np.float32), np.array(target, dtype=bool))


# at 0.3 three pixels are found and both are hit (4/5), at 0.6 two and one (1/2), at 0.9 one and one (2/3)
SCAN = histogram([0.1, 0.3, 0.6, 0.9], [0, 1, 0, 1])


def at(curve, threshold):
    return curve[THRESHOLDS.index(threshold)]


def test_dice_at_each_threshold_by_hand():
    dice = SCAN.dice()
    assert at(dice, 0.1) == pytest.approx(2 * 2 / (4 + 2))
    assert at(dice, 0.105) == at(dice, 0.3) == pytest.approx(4 / 5)
    assert at(dice, 0.305) == at(dice, 0.6) == pytest.approx(1 / 2)
    assert at(dice, 0.605) == at(dice, 0.9) == pytest.approx(2 / 3)
    assert at(dice, 0.905) == 0


def test_the_best_threshold_nearest_to_one_half_is_chosen():
    tuned = tune_threshold([SCAN])
    assert tuned.threshold == 0.3
    assert (tuned.dice, tuned.usual_dice, tuned.scans) == (pytest.approx(0.8), pytest.approx(0.5), 1)


def test_scans_without_a_pixel_that_counts_choose_no_threshold():
    assert tune_threshold([SCAN, histogram([], [])]) == tune_threshold([SCAN])
    blank = tune_threshold([histogram([], [])])
    assert (blank.threshold, blank.dice, blank.scans) == (0.5, 0, 1)
    assert pool([(blank.curve, blank.scans)]).threshold == 0.5


def test_one_half_stays_where_nothing_is_better():
    tuned = tune_threshold([histogram([0.1, 0.9], [0, 1])])
    assert (tuned.threshold, tuned.dice) == (0.5, 1.0)


def test_scans_count_alike_whatever_their_size():
    # the small scan wants a threshold above 0.6, a hundred times as many pixels of the large one do not care
    small, large = histogram([0.6, 0.9], [0, 1]), histogram([0.1] * 100 + [0.95] * 100, [0] * 100 + [1] * 100)
    tuned = tune_threshold([small, large])
    assert tuned.threshold == 0.605
    assert tuned.dice == 1.0
    assert tuned.usual_dice == pytest.approx((2 / 3 + 1) / 2)


def test_an_empty_scan_wants_nothing_found():
    dice = histogram([0.2, 0.4], [0, 0]).dice()
    assert at(dice, 0.4) == 0
    assert at(dice, 0.405) == 1


def test_the_curve_is_that_of_the_masks_which_the_thresholds_make():
    generator = np.random.default_rng(0)
    probability = generator.integers(0, 201, (20, 20)).astype(np.float32) / np.float32(200)  # many lie on an edge
    target = generator.random((20, 20)) < probability
    dice = ProbabilityHistogram.of(probability, target).dice()
    for threshold, found in zip(THRESHOLDS, dice, strict=True):
        mask = torch.from_numpy(probability) >= threshold
        assert found == pytest.approx(
            mean_of_classes(score_classes(mask.long(), torch.from_numpy(target).long(), 2)).dice
        )


def test_volumes_are_counted_like_pictures():
    scan = histogram(np.full((2, 3, 4), 0.7), np.ones((2, 3, 4)))
    assert tune_threshold([scan]).dice == 1


def test_no_scans_are_refused():
    with pytest.raises(ValueError, match="at least one scan"):
        tune_threshold([])


def test_tunings_on_parts_of_the_scans_are_pooled_as_one_on_all_of_them():
    scans = [SCAN, histogram([0.1, 0.9], [0, 1]), histogram([0.2, 0.4, 0.7], [0, 0, 1])]
    parts = [tune_threshold(scans[:1]), tune_threshold(scans[1:])]
    pooled, whole = pool([(part.curve, part.scans) for part in parts]), tune_threshold(scans)
    assert (pooled.threshold, pooled.scans) == (whole.threshold, 3)
    assert (pooled.dice, pooled.usual_dice) == (pytest.approx(whole.dice), pytest.approx(whole.usual_dice))
    assert pooled.curve == pytest.approx(whole.curve)
