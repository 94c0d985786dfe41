from __future__ import annotations

import pytest
import torch

from octa_backend.models import registry
from octa_backend.models.network_shape import NetworkShape
from tests.models.forms import small

FLAT = NetworkShape(
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)), strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), filters=(4, 8, 16)
)


def test_the_volumetric_unet_transformer_has_the_parameters_that_the_registry_names():
    network = registry.build("unet_transformer", 3, 1, spatial_dims=3)
    assert sum(weight.numel() for weight in network.parameters()) == 3_902_477
    assert registry.NETWORKS["unet_transformer"].parameters_3d == 3_902_477


@pytest.mark.parametrize("name", ["unet_transformer", pytest.param("unet3d", marks=pytest.mark.slow)])
def test_kernels_and_strides_are_those_of_the_shape(name):
    network = small(name, spatial_dims=3, shape=FLAT)
    first = next(module for module in network.encoder[0].modules() if isinstance(module, torch.nn.Conv3d))
    assert first.kernel_size == (1, 3, 3)
    assert tuple(network.multiple) == (2, 4, 4)
    assert network(torch.rand(1, 1, 5, 17, 18)).shape == (1, 1, 5, 17, 18)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynunet", "unet3d"])
def test_residual_blocks_are_left_out_where_asked(name):
    with_blocks, without = (registry.build(name, 1, 2, 3, residual=residual, shape=FLAT) for residual in (True, False))
    assert hasattr(with_blocks.encoder[1], "conv3")
    assert not hasattr(without.encoder[1], "conv3")
    with pytest.raises(RuntimeError, match="state_dict"):
        without.load_state_dict(with_blocks.state_dict())


@pytest.mark.slow
def test_unet3d_and_dynunet_are_one_network_for_volumes():
    weights = registry.build("unet3d", 1, 2, 3, shape=FLAT).state_dict()
    registry.build("dynunet", 1, 2, 3, shape=FLAT).load_state_dict(weights)


@pytest.mark.slow
def test_a_network_of_three_levels_has_no_coarser_logits_to_supervise():
    network = small("unet3d", spatial_dims=3, shape=FLAT, deep_supervision=True).train()
    assert [tuple(level.shape) for level in network(torch.rand(1, 1, 4, 16, 16))] == [(1, 1, 4, 16, 16)]


def test_a_shape_is_read_from_what_a_card_holds():
    stored = {"kernels": [[1, 3], [3, 3]], "strides": [[1, 1], [2, 2]], "filters": [4, 8]}
    assert NetworkShape.read(stored) == NetworkShape(((1, 3), (3, 3)), ((1, 1), (2, 2)), (4, 8))
    assert NetworkShape.read(None) is None
