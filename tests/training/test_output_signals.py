from __future__ import annotations

import math

import pytest
import torch

from octa_backend.training.config import TrainConfig
from octa_backend.training.losses import RECIPES, DiceBCELoss, make_loss
from octa_backend.training.output_signals import component_products, foreground_counts, norms_and_cosine

MASK = torch.tensor([[[1, 0], [0, 1]]])


def test_foreground_is_where_the_probability_is_one_half_or_more():
    logits = torch.tensor([[[[0.0, -0.1], [2.0, -3.0]]]])
    assert foreground_counts(logits, MASK).tolist() == [2, 2, 4]


def test_with_classes_foreground_is_where_the_background_does_not_win():
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 2.0], [3.0, 1.0, 2.0]]).T.view(1, 3, 2, 2)
    assert foreground_counts(logits, 2 * MASK).tolist() == [2, 2, 4]


def test_pixels_that_do_not_count_are_left_out():
    mask = torch.tensor([[[1, -1], [0, -1]]])
    assert foreground_counts(torch.ones(1, 1, 2, 2), mask).tolist() == [2, 1, 2]


def test_products_by_hand_for_an_undecided_network():
    # Of the mean BCE: w·(p - g)/n, ±1/8 at four pixels, weighted by 0.3. Of the Dice loss 1 - (2Σpg + 1)/(Σp + Σg + 1)
    # with Σp = Σg = 2: -(2g·5 - 3)/25 · p(1 - p), so -7/100 in the foreground and 3/100 in the background, by 0.7.
    loss = DiceBCELoss(0.3, 0.7)
    products = component_products(loss, torch.zeros(1, 1, 2, 2), MASK)
    bce, dice = 0.3 / 8, (0.7 * 0.07, 0.7 * 0.03)
    expected = [[4 * bce**2, 2 * bce * sum(dice)], [2 * bce * sum(dice), 2 * (dice[0] ** 2 + dice[1] ** 2)]]
    assert products.tolist() == [pytest.approx(row) for row in expected]
    norms, cosine = norms_and_cosine(products.tolist())
    assert norms == pytest.approx([2 * bce, math.hypot(dice[0], dice[0], dice[1], dice[1])])
    assert cosine == pytest.approx(10 / math.sqrt(2 * (7**2 + 3**2)))


def test_sum_of_all_products_is_the_squared_gradient_of_the_whole_loss():
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    mask = torch.randint(2, (2, 8, 8))
    loss = DiceBCELoss()
    (gradient,) = torch.autograd.grad(loss(logits, mask[:, None]).total, logits)
    assert component_products(loss, logits, mask).sum().item() == pytest.approx(gradient.square().sum().item())
    assert logits.grad is None


def test_one_component_has_a_norm_and_no_cosine():
    assert norms_and_cosine([[4.0]]) == ([2.0], None)


def test_component_without_weight_has_no_direction():
    loss = DiceBCELoss(0.0, 1.0)
    norms, cosine = norms_and_cosine(component_products(loss, torch.zeros(1, 1, 2, 2), MASK).tolist())
    assert (norms[0], cosine) == (0, None)


@pytest.mark.parametrize("name", RECIPES)
def test_every_loss_has_products(name):
    loss = make_loss(TrainConfig(loss=name, class_weights=(1.0, 2.0), pos_weight=1.0))
    products = component_products(loss, torch.randn(1, 1, 16, 16), torch.randint(2, (1, 16, 16)))
    assert products.shape == (len(loss.weights),) * 2
    assert torch.isfinite(products).all()
    assert (products.diagonal() > 0).all()


def test_component_that_ignores_the_logits_has_no_gradient():
    loss = make_loss(TrainConfig(loss="boundary"))
    loss.functions["boundary"] = lambda _: torch.tensor(1.0)
    products = component_products(loss, torch.zeros(1, 1, 2, 2), MASK)
    assert products[1].tolist() == [0, 0]
