from __future__ import annotations

import pytest
import torch

from octa_backend.training.boundary_loss import boundary_loss
from octa_backend.training.comparison import compare

ROW = torch.tensor([[[0, 0, 1, 1, 0]]])  # signed distances 1.5, 0.5, -0.5, -0.5, 0.5


def test_undecided_network_by_hand():
    # each pixel is half wrong
    found = boundary_loss(compare(torch.zeros(1, 1, 1, 5), ROW)).item()
    assert found == pytest.approx((1.5 + 0.5 + 0.5 + 0.5 + 0.5) / 2 / 5)


def test_wrong_pixel_costs_its_distance_from_the_boundary():
    logits = torch.tensor([[[[50.0, -50.0, 50.0, 50.0, -50.0]]]])  # the first one is wrong
    assert boundary_loss(compare(logits, ROW)).item() == pytest.approx(1.5 / 5)


def test_right_answer_costs_nothing():
    logits = torch.where(ROW > 0, 50.0, -50.0)[:, None]
    assert boundary_loss(compare(logits, ROW)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0, 1])
def test_mask_without_boundary_costs_nothing(value):
    comparison = compare(torch.zeros(1, 1, 2, 3), torch.full((1, 2, 3), value))
    assert boundary_loss(comparison).item() == 0


def test_several_classes_by_hand():
    # class 1: distances -0.5, 0.5, 1.5; class 2, of one pixel, 1.5, 0.5, -0.5; probability 1/3 everywhere
    found = boundary_loss(compare(torch.zeros(1, 3, 1, 3), torch.tensor([[[1, 0, 2]]]))).item()
    each = 0.5 * (2 / 3) + (0.5 + 1.5) / 3
    assert found == pytest.approx(2 * each / 6)


def test_it_is_the_mean_over_scans():
    two = compare(torch.zeros(2, 1, 1, 5), torch.cat([ROW, torch.zeros_like(ROW)]))
    assert boundary_loss(two).item() == pytest.approx(3.5 / 2 / 5 / 2)
