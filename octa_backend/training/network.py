"""The network that a plan names, built."""

from __future__ import annotations

import torch
from torch import nn

from octa_backend.models import registry
from octa_backend.models.base import EncoderDecoder
from octa_backend.training.plan import Plan
from octa_backend.training.precision import memory_format


def build_network(plan: Plan) -> nn.Module:
    """The plan's network with fresh weights from the plan's seed, on the plan's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.config.seed)
        network = registry.build(
            plan.config.model,
            plan.channels,
            plan.out_channels,
            len(plan.patch_shape),
            plan.config.deep_supervision,
            residual=plan.config.residual,
            shape=plan.network_shape,
        )
    if isinstance(network, EncoderDecoder):
        network.recomputes = plan.config.activation_checkpointing == "on"
    layout = memory_format(plan.channels_last, len(plan.patch_shape))
    return network.to(plan.device).to(memory_format=layout)
