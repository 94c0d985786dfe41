from __future__ import annotations

import math

import pytest
import torch

from octa_backend.training.comparison import compare
from octa_backend.training.region_losses import (
    dice_loss,
    focal_tversky_loss,
    generalized_dice_loss,
    iou_loss,
    tversky_loss,
)

HALF = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
ZERO = torch.zeros(1, 1, 2, 2)  # logits of an undecided network: probability 1/2 everywhere
UNDECIDED = compare(ZERO, HALF[:, 0].long())
EMPTY = compare(ZERO, torch.zeros(1, 2, 2).long())
CLASSES = compare(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 2]]]))  # probability 1/3 everywhere


def sure(mask):
    """A network that gives just this binary mask."""
    mask = torch.tensor([mask])
    return compare(torch.where(mask > 0, 50.0, -50.0)[:, None], mask)


# --- Dice -----------------------------------------------------------------------------------------------------------


def test_dice_by_hand():
    # overlap 0.5 + 0.5 = 1, sizes 2 + 2: 1 - (2 * 1 + 1) / (4 + 1)
    assert dice_loss(UNDECIDED).item() == pytest.approx(0.4)


def test_dice_is_the_mean_over_scans_and_classes():
    mask = torch.tensor([[[1, 1], [1, 1]], [[2, 2], [2, 2]]])
    answered = torch.tensor([1, 0])  # the second scan's class is missed
    logits = torch.nn.functional.one_hot(answered, 3).float().mul(100)[:, :, None, None].expand(-1, -1, 2, 2)
    # right: (8 + 1) / (8 + 1); missed: (0 + 1) / (4 + 1); both empty: 1 / 1
    assert dice_loss(compare(logits, mask)).item() == pytest.approx(1 - (1 + 1 + 1 + 0.2) / 4)


def test_dice_works_on_volumes():
    comparison = compare(torch.full((2, 1, 2, 3, 4), 50.0), torch.ones(2, 2, 3, 4))
    assert dice_loss(comparison).item() == pytest.approx(0, abs=1e-6)


def test_squared_denominator_by_hand():
    # 4 pixels of 0.25 below the line, and 2 of the mask: (2 * 1 + 1) / (1 + 2 + 1)
    assert dice_loss(UNDECIDED, "squared").item() == pytest.approx(0.25)
    assert dice_loss(UNDECIDED, "plain").item() == pytest.approx(0.4)


def test_both_denominators_agree_on_sure_predictions():
    comparison = sure([[1, 0, 0], [1, 1, 0]])
    assert dice_loss(comparison, "squared").item() == pytest.approx(dice_loss(comparison, "plain").item(), abs=1e-6)


# --- IoU ------------------------------------------------------------------------------------------------------------


def test_iou_by_hand():
    # overlap 1, union 2 + 2 - 1: (1 + 1) / (3 + 1)
    assert iou_loss(UNDECIDED).item() == pytest.approx(0.5)


def test_iou_of_several_classes_is_the_mean_over_the_foreground():
    # class 1: overlap 1/3, union 4/3 + 1 - 1/3; class 2: overlap 2/3, union 4/3 + 2 - 2/3
    first, second = (1 / 3 + 1) / (2 + 1), (2 / 3 + 1) / (8 / 3 + 1)
    assert iou_loss(CLASSES).item() == pytest.approx(1 - (first + second) / 2)


# --- generalized Dice -----------------------------------------------------------------------------------------------


def test_generalized_dice_weighs_each_class_by_its_squared_size():
    comparison = compare(ZERO, torch.tensor([[[1, 0], [0, 0]]]))
    # background: 3 pixels, weight 1/9, overlap 1.5; foreground: 1 pixel, weight 1, overlap 0.5
    overlap, sizes = 1.5 / 9 + 0.5, (2 + 3) / 9 + (2 + 1)
    assert generalized_dice_loss(comparison).item() == pytest.approx(1 - 2 * overlap / sizes)


def test_generalized_dice_of_several_classes_by_hand():
    # sizes 1, 1 and 2, so weights 1, 1 and 1/4; overlaps 1/3, 1/3 and 2/3; probabilities sum to 4/3
    overlap, sizes = 1 / 3 + 1 / 3 + 2 / 3 / 4, (4 / 3 + 1) * 2 + (4 / 3 + 2) / 4
    assert generalized_dice_loss(CLASSES).item() == pytest.approx(1 - 2 * overlap / sizes)


def test_absent_class_gets_the_largest_weight_of_those_present():
    # weights alike: overlap 2 of the background, sizes (2 + 4) + (2 + 0)
    assert generalized_dice_loss(EMPTY).item() == pytest.approx(1 - 2 * 2 / 8)


def test_generalized_dice_is_the_mean_over_scans():
    both = compare(torch.zeros(2, 1, 2, 2), torch.cat([UNDECIDED.mask, torch.tensor([[[1, 0], [0, 0]]])]))
    assert generalized_dice_loss(both).item() == pytest.approx((0.5 + 0.625) / 2)


# --- Tversky --------------------------------------------------------------------------------------------------------


def test_tversky_by_hand():
    # p = 3/4: hit 1.5, false 1.5, missed 0.5
    comparison = compare(torch.full((1, 1, 2, 2), math.log(3)), UNDECIDED.mask)
    expected = (1.5 + 1) / (1.5 + 0.3 * 1.5 + 0.7 * 0.5 + 1)
    assert tversky_loss(comparison, 0.3, 0.7).item() == pytest.approx(1 - expected)


def test_tversky_of_several_classes_by_hand():
    # class 1: hit 1/3, false 1, missed 2/3; class 2: hit 2/3, false 2/3, missed 4/3
    first = (1 / 3 + 1) / (1 / 3 + 0.3 + 0.7 * 2 / 3 + 1)
    second = (2 / 3 + 1) / (2 / 3 + 0.3 * 2 / 3 + 0.7 * 4 / 3 + 1)
    assert tversky_loss(CLASSES, 0.3, 0.7).item() == pytest.approx(1 - (first + second) / 2)


def test_alpha_is_the_price_of_false_foreground_and_beta_of_missed_foreground():
    mask = torch.tensor([[[1, 0], [0, 0]]])
    too_much = compare(torch.full((1, 1, 2, 2), 50.0), mask)  # 3 false pixels
    nothing = compare(torch.full((1, 1, 2, 2), -50.0), mask)  # 1 missed pixel
    assert tversky_loss(too_much, 0.2, 0.9).item() == pytest.approx(1 - 2 / (1 + 0.2 * 3 + 1))
    assert tversky_loss(nothing, 0.2, 0.9).item() == pytest.approx(1 - 1 / (0.9 * 1 + 1))


def test_focal_tversky_is_a_power_of_each_scans_tversky_loss():
    # HALF: (1 + 1) / (1 + 0.3 + 0.7 + 1) = 2/3; empty: 1 / (0.3 * 2 + 1)
    both = compare(torch.zeros(2, 1, 2, 2), torch.cat([UNDECIDED.mask, EMPTY.mask]))
    expected = ((1 / 3) ** 0.75 + (1 - 1 / 1.6) ** 0.75) / 2
    assert focal_tversky_loss(both, 0.3, 0.7, 0.75).item() == pytest.approx(expected)
    assert focal_tversky_loss(both, 0.3, 0.7, 1).item() == pytest.approx(tversky_loss(both, 0.3, 0.7).item())


def test_focal_tversky_has_a_finite_gradient_where_all_is_right():
    logits = torch.full((1, 1, 2, 2), -200.0, requires_grad=True)  # a probability of exactly 0
    loss = focal_tversky_loss(compare(logits, EMPTY.mask), 0.3, 0.7, 0.75)
    loss.backward()
    assert loss.item() < 1e-4
    assert torch.isfinite(logits.grad).all()
