from __future__ import annotations

import math

import pytest
import torch

from octa_backend.training.config import TrainConfig
from octa_backend.training.losses import DiceBCELoss, DiceCELoss, compute_loss, make_loss, soft_dice

LN2 = math.log(2)


def scan(*rows):
    """One scan as (1, 1, H, W)."""
    return torch.tensor(rows, dtype=torch.float32)[None, None]


UNDECIDED = scan([0, 0], [0, 0])  # probability 1/2 everywhere
HALF = scan([1, 0], [0, 1])


def components(loss, logits, target):
    return {name: value.item() for name, value in loss(logits, target).components.items()}


# --- soft Dice ------------------------------------------------------------------------------------------------------


def test_soft_dice_by_hand():
    # overlap 0.5 + 0.5 = 1, sizes 2 + 2: (2 * 1 + 1) / (4 + 1)
    assert soft_dice(torch.full((1, 1, 2, 2), 0.5), HALF).tolist() == [[pytest.approx(0.6)]]


def test_soft_dice_is_per_scan_and_class():
    probability = torch.zeros(2, 3, 2, 2)
    probability[0, 1] = 1
    target = torch.zeros(2, 3, 2, 2)
    target[0, 1], target[1, 2] = 1, 1
    # right: (8 + 1) / (8 + 1); missed: (0 + 1) / (4 + 1); both empty: 1 / 1
    expected = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.2]])
    torch.testing.assert_close(soft_dice(probability, target), expected)


def test_soft_dice_works_on_volumes():
    assert soft_dice(torch.ones(2, 1, 2, 3, 4), torch.ones(2, 1, 2, 3, 4)).tolist() == [[1.0], [1.0]]


# --- Dice + binary cross-entropy ------------------------------------------------------------------------------------


def test_bce_and_dice_of_an_undecided_network_by_hand():
    found = components(DiceBCELoss(), UNDECIDED, HALF)
    assert found == {"bce": pytest.approx(LN2), "dice": pytest.approx(0.4)}


def test_bce_by_hand_for_logits_that_are_not_zero():
    # p = 3/4 at logit ln 3. Right at the two foreground pixels, wrong at the two others.
    logits = torch.full((1, 1, 2, 2), math.log(3))
    found = components(DiceBCELoss(), logits, HALF)
    assert found["bce"] == pytest.approx((2 * -math.log(3 / 4) + 2 * -math.log(1 / 4)) / 4)
    assert found["dice"] == pytest.approx(1 - (2 * 1.5 + 1) / (3 + 2 + 1))


def test_dice_loss_is_the_mean_over_scans():
    empty = torch.zeros_like(HALF)
    found = components(DiceBCELoss(), torch.cat([UNDECIDED, UNDECIDED]), torch.cat([HALF, empty]))
    # an empty mask met by two pixels of probability: 1 / (2 + 0 + 1)
    assert found["dice"] == pytest.approx(1 - (0.6 + 1 / 3) / 2)


@pytest.mark.parametrize(("bce_weight", "dice_weight"), [(0.5, 0.5), (0.3, 0.7), (0, 1), (2, 0)])
def test_total_is_exactly_the_weighted_sum(bce_weight, dice_weight):
    torch.manual_seed(0)
    result = DiceBCELoss(bce_weight, dice_weight)(torch.randn(2, 1, 5, 5), (torch.rand(2, 1, 5, 5) > 0.5).float())
    assert torch.equal(result.total, bce_weight * result.components["bce"] + dice_weight * result.components["dice"])


def test_empty_mask_met_by_an_empty_prediction_costs_nothing():
    found = components(DiceBCELoss(), torch.full((1, 1, 2, 2), -50.0), torch.zeros(1, 1, 2, 2))
    assert found == {"bce": pytest.approx(0, abs=1e-12), "dice": pytest.approx(0, abs=1e-12)}


def test_false_vessels_in_an_empty_scan_cost():
    found = components(DiceBCELoss(), torch.full((1, 1, 2, 2), 50.0), torch.zeros(1, 1, 2, 2))
    assert found == {"bce": pytest.approx(50), "dice": pytest.approx(1 - 1 / 5)}


def test_mask_that_is_all_foreground_can_be_learnt_completely():
    found = components(DiceBCELoss(), torch.full((1, 1, 2, 2), 50.0), torch.ones(1, 1, 2, 2))
    assert found == {"bce": pytest.approx(0, abs=1e-12), "dice": pytest.approx(0, abs=1e-6)}


def test_pos_weight_weighs_foreground_pixels_in_the_cross_entropy_only():
    # two foreground pixels count 3 ln 2 each, two background pixels ln 2 each
    found = components(DiceBCELoss(pos_weight=3), UNDECIDED, HALF)
    assert found == {"bce": pytest.approx((2 * 3 * LN2 + 2 * LN2) / 4), "dice": pytest.approx(0.4)}


@pytest.mark.parametrize("autocast", [False, True])
def test_huge_bf16_logits_give_a_finite_float32_loss(autocast):
    logits = scan([1e4, -1e4], [1e4, -1e4]).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = DiceBCELoss()(logits, scan([1, 0], [0, 1]))
    # bf16 knows 9984, not 10000. Two of four pixels are wrong; one of two foreground pixels is found.
    assert result.components["bce"].item() == pytest.approx(9984 / 2)
    assert result.components["dice"].item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))
    assert {value.dtype for value in (result.total, *result.components.values())} == {torch.float32}
    result.total.backward()
    assert torch.isfinite(logits.grad).all()


def test_gradient_points_from_the_prediction_to_the_mask():
    logits = UNDECIDED.clone().requires_grad_()
    DiceBCELoss()(logits, HALF).total.backward()
    assert (logits.grad[HALF == 1] < 0).all()
    assert (logits.grad[HALF == 0] > 0).all()


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 1, 2, 3), (1, 1, 2, 1), (2, 1, 2, 2)])
def test_masks_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"logits are \(1, 1, 2, 2\) but the mask is") as caught:
        DiceBCELoss()(UNDECIDED, torch.zeros(shape))
    assert str(tuple(shape)) in str(caught.value)


# --- Dice + softmax cross-entropy -----------------------------------------------------------------------------------

CLASSES = torch.tensor([[[0, 1], [2, 2]]])


def test_ce_and_dice_of_an_undecided_network_by_hand():
    # p = 1/3. Class 1: (2/3 + 1) / (4/3 + 1 + 1) = 1/2. Class 2: (4/3 + 1) / (4/3 + 2 + 1) = 7/13. Background is out.
    found = components(DiceCELoss(), torch.zeros(1, 3, 2, 2), CLASSES)
    assert found == {"ce": pytest.approx(math.log(3)), "dice": pytest.approx(1 - (1 / 2 + 7 / 13) / 2)}


def test_right_classes_cost_nothing():
    logits = 100 * torch.nn.functional.one_hot(CLASSES, 3).movedim(-1, 1).float()
    found = components(DiceCELoss(), logits, CLASSES)
    assert found == {"ce": pytest.approx(0, abs=1e-6), "dice": pytest.approx(0, abs=1e-6)}


def test_total_of_dice_and_ce_is_exactly_the_weighted_sum():
    torch.manual_seed(0)
    result = DiceCELoss(0.3, 0.7)(torch.randn(2, 4, 5, 5), torch.randint(4, (2, 5, 5)))
    assert torch.equal(result.total, 0.3 * result.components["ce"] + 0.7 * result.components["dice"])


def test_dice_and_ce_of_huge_bf16_logits_are_finite_float32():
    logits = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)
    logits[:, 0], logits[:, 1] = 1e4, -1e4
    logits.requires_grad_()
    result = DiceCELoss()(logits, CLASSES)
    assert result.total.dtype == torch.float32
    assert torch.isfinite(result.total)
    result.total.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 2, 2), (1, 2, 3)])
def test_class_masks_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"logits are \(1, 3, 2, 2\) but the mask is"):
        DiceCELoss()(torch.zeros(1, 3, 2, 2), torch.zeros(shape, dtype=torch.int64))


# --- from the config ------------------------------------------------------------------------------------------------


def test_config_decides_which_loss_with_which_weights():
    loss = make_loss(TrainConfig(bce_weight=0.3, dice_weight=0.7, pos_weight=4))
    assert isinstance(loss, DiceBCELoss)
    assert (loss.weights, loss.pos_weight) == ({"bce": 0.3, "dice": 0.7}, 4)
    loss = make_loss(TrainConfig(loss="dice_ce", bce_weight=0.3, dice_weight=0.7))
    assert isinstance(loss, DiceCELoss)
    assert loss.weights == {"ce": 0.3, "dice": 0.7}


def test_class_indices_are_brought_to_the_form_that_each_loss_wants():
    binary = compute_loss(DiceBCELoss(), UNDECIDED, HALF[0].long())
    assert torch.equal(binary.total, DiceBCELoss()(UNDECIDED, HALF).total)
    logits = torch.zeros(1, 3, 2, 2)
    assert torch.equal(compute_loss(DiceCELoss(), logits, CLASSES).total, DiceCELoss()(logits, CLASSES).total)
