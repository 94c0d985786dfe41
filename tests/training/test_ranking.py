from __future__ import annotations

import numpy as np
import pytest

from octa_backend.training.ranking import auc_of_counts, roc_auc


def auc(probability, target):
    return roc_auc(np.array(probability, dtype=np.float32), np.array(target, dtype=bool))


def test_the_share_of_pairs_ranked_right_by_hand():
    # foreground 0.8 and 0.3, background 0.1 and 0.5: 3 of 4 pairs are right
    assert auc([[0.8, 0.3], [0.1, 0.5]], [[1, 1], [0, 0]]) == 3 / 4


def test_a_tie_counts_one_half():
    # 0.5 against 0.5 is a tie, 0.5 against 0.2 is right
    assert auc([0.5, 0.5, 0.2], [1, 0, 0]) == 1.5 / 2


def test_equal_probabilities_rank_by_chance():
    assert auc([0.3] * 7, [1, 0, 0, 1, 0, 0, 1]) == 0.5


def test_a_perfect_and_a_reversed_ranking():
    assert auc([0.9, 0.8, 0.1], [1, 1, 0]) == 1
    assert auc([0.9, 0.8, 0.1], [0, 0, 1]) == 0


@pytest.mark.parametrize("target", [[0, 0], [1, 1]])
def test_foreground_or_background_alone_cannot_be_ranked(target):
    assert auc([0.2, 0.7], target) is None


def test_it_is_the_plain_count_over_all_pairs():
    generator = np.random.default_rng(1)
    probability, target = generator.integers(0, 9, 200) / 8, generator.random(200) > 0.6
    pairs = [(p > n) + (p == n) / 2 for p in probability[target] for n in probability[~target]]
    assert auc(probability, target) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_a_histogram_of_many_pixels_stays_exact():
    half = 10**9
    assert auc_of_counts(np.array([half, half]), np.array([half, half])) == 0.5
    assert auc_of_counts(np.array([0, half]), np.array([half, 0])) == 1.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"the probabilities are \(2,\) but the mask is \(1,\)"):
        auc([0.1, 0.2], [1])
