"""Activations computed twice: the same step with less memory."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.models.forms import is_slow, small

FORMS = [("unet", 2), ("unet_transformer", 2), ("unet_transformer", 3), ("dynunet", 3)]


def step(network, x):
    """Kept bytes, logits, gradients and running statistics of one forward and backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(x)
    sum(level.square().mean() for level in logits).backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    return sum(kept.values()), logits, gradients, dict(network.named_buffers())


@pytest.mark.parametrize(
    ("name", "dims"), [pytest.param(*form, marks=pytest.mark.slow if is_slow(form[0]) else ()) for form in FORMS]
)
def test_gradients_and_statistics_are_equal_and_less_is_kept(name, dims):
    plain = small(name, spatial_dims=dims, deep_supervision=True) if dims == 3 else small(name, deep_supervision=True)
    twice = copy.deepcopy(plain)
    twice.recomputes = True
    x = torch.rand(2, 1, *(16, 16, 32)[:dims])
    kept, logits, gradients, statistics = step(plain.train(), x)
    kept_less, logits_again, gradients_again, statistics_again = step(twice.train(), x)
    assert all(torch.equal(one, other) for one, other in zip(logits, logits_again, strict=True))
    assert gradients.keys() == gradients_again.keys()
    assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)
    assert all(torch.equal(statistics[name], statistics_again[name]) for name in statistics)
    assert kept_less < 0.7 * kept


def test_it_can_be_compiled():
    plain = small("unet").train()
    twice = copy.deepcopy(plain)
    twice.recomputes = True
    x = torch.rand(2, 1, 16, 16)
    for compute in (plain, torch.compile(twice, backend="aot_eager")):
        compute(x).square().mean().backward()
    for one, other in zip(plain.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for one, other in zip(plain.buffers(), twice.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_in_evaluation_nothing_is_computed_twice():
    network = small("unet").eval()
    x = torch.rand(1, 1, 32, 32)
    expected = network(x)
    network.recomputes = True
    assert torch.equal(network(x), expected)
