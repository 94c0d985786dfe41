from __future__ import annotations

import pytest
import torch

from octa_backend.errors import InvalidConfig
from octa_backend.models import registry
from octa_backend.training.checkpoint import load_weights, save_weights
from tests.models.forms import SUPERVISED, small

LEVELS = {"unet_transformer": 3, "unet": 3, "tiny_unet": 2, "dynunet": 3}
pytestmark = pytest.mark.timeout(600)  # the first network of MONAI waits for its import


@pytest.mark.parametrize("name", SUPERVISED)
def test_in_training_several_levels_have_logits_of_the_scans_size(name):
    network = small(name, 2, 3, deep_supervision=True).train()
    logits = network(torch.rand(2, 2, 33, 50))
    assert isinstance(logits, list)
    assert [tuple(level.shape) for level in logits] == [(2, 3, 33, 50)] * LEVELS[name]


@pytest.mark.parametrize("name", [pytest.param("dynunet", marks=pytest.mark.slow), "unet_transformer"])
def test_in_training_several_levels_of_a_volume_have_logits_of_its_size(name):
    network = small(name, spatial_dims=3, deep_supervision=True).train()
    logits = network(torch.rand(1, 1, 16, 17, 18))
    assert [tuple(level.shape) for level in logits] == [(1, 1, 16, 17, 18)] * 3


@pytest.mark.parametrize("name", SUPERVISED)
@torch.inference_mode()
def test_in_evaluation_the_finest_logits_come_alone(name):
    network = small(name, deep_supervision=True).train()
    x = torch.rand(2, 1, 32, 32)
    plain = small(name).train()
    plain.load_state_dict(network.state_dict())
    finest_in_training = network(x)[0]
    assert torch.equal(finest_in_training, plain(x))
    assert torch.equal(network.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("name", SUPERVISED)
def test_the_finest_level_comes_first(name):
    network = small(name, deep_supervision=True).train()
    finest, *coarser = network(torch.rand(2, 1, 32, 32))
    head = network.gradient_groups()["decoder_output"]
    reached = torch.autograd.grad(finest.square().mean(), head, retain_graph=True)
    assert torch.nn.utils.get_total_norm(reached) > 0
    for level in coarser:
        assert all(g is None for g in torch.autograd.grad(level.mean(), head, retain_graph=True, allow_unused=True))


@pytest.mark.parametrize("name", SUPERVISED)
def test_every_parameter_takes_part_in_the_weighted_sum(name):
    network = small(name, deep_supervision=True).train()
    logits = network(torch.rand(1, 1, 16, 16))
    weights = registry.supervision_weights(len(logits))
    sum(weight * level.square().mean() for weight, level in zip(weights, logits, strict=True)).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", SUPERVISED)
def test_without_deep_supervision_training_gives_one_tensor(name):
    assert isinstance(small(name).train()(torch.rand(2, 1, 16, 16)), torch.Tensor)


@pytest.mark.parametrize("name", SUPERVISED)
def test_auxiliary_heads_exist_only_when_asked_for(name):
    plain, supervised = small(name).state_dict(), small(name, deep_supervision=True).state_dict()
    assert not any(key.startswith("auxiliary") for key in plain)
    assert {key for key in supervised if not key.startswith("auxiliary")} == set(plain)


@pytest.mark.parametrize("name", SUPERVISED)
def test_weights_trained_with_deep_supervision_load_without(name, tmp_path):
    supervised, plain = small(name, deep_supervision=True).eval(), small(name).eval()
    for p in plain.parameters():
        p.data.zero_()
    save_weights(supervised, tmp_path / "weights.safetensors")
    load_weights(plain, tmp_path / "weights.safetensors")
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(supervised(x), plain(x))


def test_the_registry_builds_with_deep_supervision_where_asked():
    assert registry.build("tiny_unet", 1, 1, deep_supervision=True).deep_supervision
    assert not registry.build("tiny_unet", 1, 1).deep_supervision


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "segresnet"])
def test_a_network_without_deep_supervision_says_so(name):
    with pytest.raises(InvalidConfig) as caught:
        registry.build(name, 1, 1, deep_supervision=True)
    assert repr(name) in caught.value.message
    assert "dynunet" in caught.value.message


def test_weights_halve_per_level_and_sum_to_one():
    assert registry.supervision_weights(1) == (1.0,)
    assert registry.supervision_weights(2) == pytest.approx((2 / 3, 1 / 3))
    assert registry.supervision_weights(3) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
