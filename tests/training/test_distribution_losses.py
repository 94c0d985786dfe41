from __future__ import annotations

import math

import pytest
import torch

from octa_backend.training.comparison import compare
from octa_backend.training.distribution_losses import (
    binary_cross_entropy,
    cross_entropy,
    focal_loss,
    weight_map_cross_entropy,
    weighted_cross_entropy,
)

LN2 = math.log(2)
HALF = torch.tensor([[[1, 0], [0, 1]]])
LIKELY = compare(torch.full((1, 1, 2, 2), math.log(3)), HALF)  # probability 3/4 everywhere

# probabilities 1/2, 1/4 and 1/4 everywhere; true classes 0, 1, 2 and 2
CLASSES = compare(torch.tensor([LN2, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 2]]]))


def test_binary_cross_entropy_by_hand():
    assert binary_cross_entropy(LIKELY).item() == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2)
    assert cross_entropy(LIKELY).item() == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2)


def test_pos_weight_weighs_the_foreground():
    assert binary_cross_entropy(LIKELY, 3).item() == pytest.approx((-3 * math.log(3 / 4) - math.log(1 / 4)) / 2)


def test_cross_entropy_of_several_classes_by_hand():
    assert cross_entropy(CLASSES).item() == pytest.approx((LN2 + 3 * 2 * LN2) / 4)


def test_binary_cross_entropy_is_for_one_channel():
    with pytest.raises(ValueError, match="size"):
        binary_cross_entropy(CLASSES)


# --- class weights --------------------------------------------------------------------------------------------------


def test_weighted_cross_entropy_is_the_weighted_mean_over_pixels():
    # two background pixels of ln 4, two foreground pixels of ln 4/3, which weigh three times as much
    expected = (2 * math.log(4) + 2 * 3 * math.log(4 / 3)) / (2 + 6)
    assert weighted_cross_entropy(LIKELY, (1, 3)).item() == pytest.approx(expected)
    assert weighted_cross_entropy(CLASSES, (1, 2, 4)).item() == pytest.approx(LN2 * (1 + 2 * 2 + 2 * 4 * 2) / 11)


def test_equal_weights_change_nothing():
    assert weighted_cross_entropy(CLASSES, (5, 5, 5)).item() == pytest.approx(cross_entropy(CLASSES).item())


def test_batch_of_classes_without_weight_costs_nothing():
    comparison = compare(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2).long())
    assert weighted_cross_entropy(comparison, (0, 1)).item() == 0


@pytest.mark.parametrize(("comparison", "weights"), [(LIKELY, (1, 2, 3)), (CLASSES, (1, 2))])
def test_other_number_of_weights_than_classes_is_refused_with_both_numbers(comparison, weights):
    expected = f"there are {len(weights)} class weights but {comparison.classes} classes"
    with pytest.raises(ValueError, match=expected):
        weighted_cross_entropy(comparison, weights)
    with pytest.raises(ValueError, match=expected):
        weight_map_cross_entropy(comparison, weights, 10, 5)


# --- weight map -----------------------------------------------------------------------------------------------------


def test_weight_map_makes_the_gap_between_two_objects_dear():
    # d1 + d2 is 1 + 3, 2 + 2 and 3 + 1: exp(-16 / 8) at sigma 2
    comparison = compare(torch.zeros(1, 1, 1, 5), torch.tensor([[[1, 0, 0, 0, 1]]]))
    gap = 0.5 + 10 * math.exp(-2)
    found = weight_map_cross_entropy(comparison, (0.5, 4), border_weight=10, border_sigma=2)
    assert found.item() == pytest.approx((2 * 4 + 3 * gap) / 5 * LN2)


def test_weight_map_of_several_classes_by_hand():
    # two classes that touch are two objects; the background pixel has d1 = 1 and d2 = 2
    comparison = compare(torch.zeros(1, 3, 1, 3), torch.tensor([[[2, 1, 0]]]))
    found = weight_map_cross_entropy(comparison, (1, 2, 3), border_weight=10, border_sigma=3)
    assert found.item() == pytest.approx((3 + 2 + 1 + 10 * math.exp(-9 / 18)) / 3 * math.log(3))


@pytest.mark.parametrize("mask", [[[0, 0], [0, 0]], [[1, 0], [1, 0]], [[1, 1], [1, 1]]])
def test_fewer_than_two_objects_leave_the_class_weights(mask):
    comparison = compare(torch.zeros(1, 1, 2, 2), torch.tensor([mask]))
    foreground = sum(map(sum, mask))
    found = weight_map_cross_entropy(comparison, (0.5, 4), border_weight=10, border_sigma=5)
    assert found.item() == pytest.approx(((4 - foreground) * 0.5 + foreground * 4) / 4 * LN2)


# --- focal loss -----------------------------------------------------------------------------------------------------


def test_focal_loss_by_hand():
    # foreground: right with 3/4; background: right with 1/4
    right = 0.25 * (1 / 4) ** 2 * -math.log(3 / 4)
    wrong = 0.75 * (3 / 4) ** 2 * -math.log(1 / 4)
    assert focal_loss(LIKELY, alpha=0.25, gamma=2).item() == pytest.approx((right + wrong) / 2)


def test_focal_loss_of_several_classes_by_hand():
    # background right with 1/2, three foreground pixels with 1/4
    background = 0.9 * (1 / 2) ** 3 * LN2
    foreground = 0.1 * (3 / 4) ** 3 * 2 * LN2
    assert focal_loss(CLASSES, alpha=0.1, gamma=3).item() == pytest.approx((background + 3 * foreground) / 4)


def test_gamma_of_zero_and_equal_weights_are_half_the_cross_entropy():
    for comparison in (LIKELY, CLASSES):
        found = focal_loss(comparison, alpha=0.5, gamma=0).item()
        assert found == pytest.approx(cross_entropy(comparison).item() / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_has_a_finite_gradient_where_all_is_right(gamma):
    logits = torch.tensor([[[[200.0, -200.0], [-200.0, 200.0]]]], requires_grad=True)
    loss = focal_loss(compare(logits, HALF), alpha=0.25, gamma=gamma)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(logits.grad).all()
