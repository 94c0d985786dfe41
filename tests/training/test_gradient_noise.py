from __future__ import annotations

import pytest
import torch
from torch import nn

from octa_backend.training.gradient_noise import SAMPLE, GradientNoise


def seen(gradients, scans=4):
    """The estimate after these gradients of one parameter."""
    parameter = nn.Parameter(torch.zeros(len(gradients[0])))
    noise = GradientNoise([parameter])
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        noise.see(scans)
    return noise.scale()


def test_scale_by_hand():
    # Gradients swing between (1, 1) and (1, -1): half the squared distance is 2, the product 0 ...
    assert seen([[1.0, 1.0], [1.0, -1.0]] * 3) is None
    # ... and between (2, 1) and (2, -1): 2, and 4 - 1 = 3. With 4 scans a step: 4 · 2 / 3.
    assert seen([[2.0, 1.0], [2.0, -1.0]] * 3) == pytest.approx(8 / 3)


def test_equal_gradients_have_no_noise():
    assert seen([[1.0, 2.0]] * 6) == 0


def test_few_pairs_say_nothing():
    assert seen([[2.0, 1.0], [2.0, -1.0]] * 2) is None


def test_scale_of_many_drawn_gradients_is_the_true_one():
    # Per scan: mean 0.1 and deviation 1 in each of 400 numbers. tr(Σ) / |G|² = 400 / (400 · 0.01) = 100 scans.
    draws = 0.1 + torch.randn(200, 400) / 8**0.5
    assert seen(draws.tolist(), scans=8) == pytest.approx(100, rel=0.15)


def test_step_over_fewer_scans_makes_no_pair():
    parameter = nn.Parameter(torch.zeros(2))
    noise = GradientNoise([parameter])
    for scans in (4, 4, 4, 1, 4, 4, 4):
        parameter.grad = torch.tensor([1.0, 1.0])
        noise.see(scans)
    assert noise.scale() is None  # four pairs
    noise.see(4)
    assert noise.scale() == 0


def test_large_gradient_is_sampled_by_whole_channels_in_either_layout():
    parameter = nn.Parameter(torch.zeros(64, 64, 3, 3))
    noise = GradientNoise([parameter])
    plain = torch.randn(64, 64, 3, 3)
    parameter.grad = plain
    noise.see(2)
    assert len(noise._previous) <= SAMPLE
    assert torch.equal(noise._previous, plain[:28].flatten())
    noise.forget()
    parameter.grad = plain.contiguous(memory_format=torch.channels_last)
    noise.see(2)
    assert torch.equal(noise._previous, plain[:28].flatten())


def test_one_large_row_is_cut():
    parameter = nn.Parameter(torch.zeros(1, 3 * SAMPLE))
    noise = GradientNoise([parameter])
    noise.see(2)
    assert len(noise._previous) == SAMPLE
