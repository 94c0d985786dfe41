"""How large a training is, worked out on tensors without memory."""

from __future__ import annotations

import functools

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from octa_backend.models import registry
from octa_backend.training.config import TrainConfig
from octa_backend.training.precision import is_half

MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}
"""Numbers that an optimizer keeps per weight."""


class Estimate(BaseModel):
    """What a training asks of its device.

    Attributes:
        parameters: of the network.
        memory_mib: weights, their running average, gradients, moments, and what a step keeps for its backward pass.
            Measured peaks are some hundred MiB higher: the program itself, and scratch space of single operations.
    """

    model_config = ConfigDict(frozen=True)

    parameters: int
    memory_mib: float


def estimate(config: TrainConfig, channels: int, classes: int, shape: tuple[int, ...], batch_size: int) -> Estimate:
    """Size up a training; nothing is computed.

    Args:
        config: with network, optimizer and precision resolved.
        channels: of the scans.
        classes: with background.
        shape: (H, W) or (D, H, W) of a sample.
        batch_size: samples computed at once.
    """
    parameters, activation_bytes = _sized(
        config.model, channels, registry.out_channels(classes), (batch_size, *shape), is_half(config.precision)
    )
    state_bytes = 4 * parameters * (3 + MOMENTS[config.optimizer])  # float32: weights, average, gradients; moments
    return Estimate(parameters=parameters, memory_mib=round((state_bytes + activation_bytes) / 2**20, 1))


@functools.lru_cache(maxsize=32)  # a network of tens of millions of weights takes a second to make
def _sized(model: str, in_channels: int, out_channels: int, shape: tuple[int, ...], half: bool) -> tuple[int, int]:
    """Parameters of a network, and bytes that a forward pass over (B, *spatial) keeps for the backward pass."""
    with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay as they are
        network = registry.build(model, in_channels, out_channels, len(shape) - 1).train().to("meta")
    x = torch.empty(shape[0], in_channels, *shape[1:], device="meta")
    if half:
        network, x = network.bfloat16(), x.bfloat16()
    kept: dict[int, Tensor] = {}  # by storage, for several operations keep the same tensor

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    for weight in network.parameters():
        keep(weight)
    weight_bytes = _bytes(kept)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x)
    return sum(weight.numel() for weight in network.parameters()), _bytes(kept) - weight_bytes


def _bytes(kept: dict[int, Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
