"""What every network of the registry keeps to."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch.nn import functional as F

from octa_backend.models import registry
from octa_backend.training.checkpoint import load_weights, save_weights
from octa_backend.training.events import GRADIENT_GROUPS
from tests.models.forms import ALL, HEAVY, VOLUMETRIC, each, small

pytestmark = pytest.mark.timeout(600)  # the first network of MONAI waits for its import


def count(name, spatial_dims):
    # Counts without filling millions of numbers; MONAI's Swin transformer cannot be built that way.
    device = contextlib.nullcontext() if name == "swin_unetr" else torch.device("meta")
    with device:
        network = registry.build(name, in_channels=3, out_channels=1, spatial_dims=spatial_dims)
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ALL)
def test_a_network_has_as_many_parameters_as_the_registry_says(name):
    assert count(name, 2) == registry.NETWORKS[name].parameters


@pytest.mark.parametrize("name", VOLUMETRIC)
def test_a_volumetric_network_has_as_many_parameters_as_the_registry_says(name):
    assert count(name, 3) == registry.NETWORKS[name].parameters_3d


@pytest.mark.parametrize("name", ALL)
@torch.inference_mode()
def test_logits_have_the_size_of_the_scan_and_a_channel_per_class(name):
    two_to_five = small(name, in_channels=2, out_channels=5).eval()
    one_to_one = small(name).eval()
    assert two_to_five(torch.rand(2, 2, 17, 50)).shape == (2, 5, 17, 50)
    assert one_to_one(torch.rand(1, 1, 16, 16)).shape == (1, 1, 16, 16)
    assert one_to_one(torch.rand(1, 1, 33, 16)).shape == (1, 1, 33, 16)


@pytest.mark.parametrize("name", VOLUMETRIC)
@torch.inference_mode()
def test_volumes_give_logits_of_their_size(name):
    network = small(name, in_channels=2, out_channels=3, spatial_dims=3).eval()
    assert network(torch.rand(1, 2, 16, 17, 18)).shape == (1, 3, 16, 17, 18)


@pytest.mark.parametrize("name", ALL)
def test_one_scan_of_16_pixels_can_be_trained_and_reaches_every_parameter(name):
    network = small(name)
    network(torch.rand(1, 1, 16, 16)).square().mean().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", VOLUMETRIC)
def test_one_volume_of_16_voxels_a_side_can_be_trained(name):
    network = small(name, spatial_dims=3)
    network(torch.rand(1, 1, 16, 16, 16)).square().mean().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", VOLUMETRIC)
def test_gradient_groups_of_a_volumetric_network_are_the_four_and_reached(name):
    network = small(name, spatial_dims=3)
    network(torch.rand(2, 1, 16, 16, 24)).square().mean().backward()
    groups = network.gradient_groups()
    assert tuple(groups) == GRADIENT_GROUPS
    members = [id(p) for group in groups.values() for p in group]
    assert len(members) == len(set(members))
    assert all(torch.nn.utils.get_total_norm([p.grad for p in group]) > 0 for group in groups.values())


@pytest.mark.parametrize("name", ALL)
def test_gradient_groups_are_the_four_apart_from_each_other_and_reached(name):
    network = small(name)
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    groups = network.gradient_groups()
    assert tuple(groups) == GRADIENT_GROUPS
    members = [id(p) for group in groups.values() for p in group]
    assert len(members) == len(set(members))
    assert set(members) <= {id(p) for p in network.parameters()}
    assert all(torch.nn.utils.get_total_norm([p.grad for p in group]) > 0 for group in groups.values())


@pytest.mark.parametrize("name", VOLUMETRIC)
def test_gradient_groups_of_volumetric_networks_are_the_four(name):
    groups = small(name, spatial_dims=3).gradient_groups()
    assert tuple(groups) == GRADIENT_GROUPS
    assert all(groups.values())


@pytest.mark.parametrize("name", ALL)
def test_the_first_group_sees_the_scan_and_the_last_makes_the_logits(name):
    groups = small(name, in_channels=2, out_channels=7).gradient_groups()
    assert any(p.dim() == 4 and p.shape[1] == 2 for p in groups["encoder_conv1"])
    assert any(p.shape[0] == 7 for p in groups["decoder_output"])


@pytest.mark.parametrize("name", ALL)
def test_a_few_steps_of_adam_lower_the_loss(name):
    network = small(name).train()
    x = torch.zeros(2, 1, 32, 32)
    x[..., 8:24] = 1
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3 if "v3" in name else 1e-2)
    losses = []
    for _ in range(3 if name in HEAVY else 6):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network(x), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", ALL)
@torch.inference_mode()
def test_weights_come_back_from_their_file(name, tmp_path):
    network, fresh = small(name, 2, 3).eval(), small(name, 2, 3).eval()
    for p in fresh.parameters():
        p.zero_()
    save_weights(network, tmp_path / "weights.safetensors")
    load_weights(fresh, tmp_path / "weights.safetensors")
    x = torch.rand(1, 2, 32, 32)
    assert torch.equal(network(x), fresh(x))


@pytest.mark.parametrize("name", ALL)
def test_every_weight_stands_once_in_the_state(name):
    tensors = [value for value in small(name).state_dict().values() if value.numel()]
    assert len({value.data_ptr() for value in tensors}) == len(tensors)


@pytest.mark.parametrize("name", each(name for name in registry.NETWORKS if name not in HEAVY))
def test_a_network_can_be_copied_after_a_step(name):
    network = small(name)
    network(torch.rand(2, 1, 16, 16)).mean().backward()
    twin = copy.deepcopy(network).eval()
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(twin(x), network.eval()(x))


@pytest.mark.parametrize("name", ALL)
@torch.inference_mode()
def test_in_evaluation_a_scan_does_not_depend_on_its_batch(name):
    network = small(name).eval()
    x = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-3, atol=1e-4)
