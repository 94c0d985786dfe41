"""How large a training is, worked out on tensors without memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from octa_backend.models import registry
from octa_backend.models.base import EncoderDecoder
from octa_backend.models.network_shape import NetworkShape
from octa_backend.training.config import TrainConfig
from octa_backend.training.precision import is_half

MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}
"""Numbers that an optimizer keeps per weight."""


class Estimate(BaseModel):
    """What a training asks of its device.

    Attributes:
        parameters: of the network.
        memory_mib: weights, their running average, gradients, moments, and what a step keeps for its backward pass.
            Measured peaks are higher, on a CPU by a GiB and more: the program itself, and scratch space of operations.
    """

    model_config = ConfigDict(frozen=True)

    parameters: int
    memory_mib: float


def estimate(
    config: TrainConfig,
    channels: int,
    classes: int,
    sample: tuple[int, ...],
    network_shape: NetworkShape | None = None,
) -> Estimate:
    """Size up a training; nothing is computed.

    Args:
        config: with network, optimizer and precision resolved; where `activation_checkpointing` is open it is off.
        channels: of the scans.
        classes: with background.
        sample: (B, H, W) or (B, D, H, W), what is computed at once.
        network_shape: of a network that follows the voxels.
    """
    parameters, activation_bytes = _sized(
        _Form(
            config.model,
            channels,
            registry.out_channels(classes, of_regions=config.target == "regions"),
            config.residual,
            config.activation_checkpointing == "on",
            network_shape,
        ),
        sample,
        is_half(config.precision),
    )
    state_bytes = 4 * parameters * (3 + MOMENTS[config.optimizer])  # float32: weights, average, gradients; moments
    return Estimate(parameters=parameters, memory_mib=round((state_bytes + activation_bytes) / 2**20, 1))


@dataclass(frozen=True, slots=True)
class _Form:
    """What of a network its size depends on."""

    model: str
    in_channels: int
    out_channels: int
    residual: bool
    recomputes: bool
    shape: NetworkShape | None

    def build(self, spatial_dims: int) -> nn.Module:
        """The network, on tensors without memory; the run's own random numbers stay as they are."""
        with torch.random.fork_rng(devices=[]):
            network = registry.build(
                self.model,
                self.in_channels,
                self.out_channels,
                spatial_dims,
                residual=self.residual,
                shape=self.shape,
            )
        return network.train().to("meta")


class _Kept:
    """Tensors that a forward pass keeps for its backward pass, each storage once; inside a level or outside of all.

    Args:
        levels: modules that are computed again in the backward pass, of which only one at a time is in memory.
    """

    def __init__(self, levels: Sequence[nn.Module]) -> None:
        self._kept: dict[nn.Module | None, dict[int, Tensor]] = {None: {}}
        self._now: nn.Module | None = None
        for level in levels:
            level.register_forward_pre_hook(self._enter)
            level.register_forward_hook(self._leave)

    def keep(self, tensor: Tensor) -> Tensor:
        """Count a tensor."""
        self._kept[self._now].setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    def size(self) -> int:
        """Bytes: of all outside of levels and, of what is inside, of the largest level."""
        outside = self._kept[None]
        inside = [
            sum(_bytes(tensor) for storage, tensor in tensors.items() if storage not in outside)
            for level, tensors in self._kept.items()
            if level is not None
        ]
        return sum(map(_bytes, outside.values())) + max(inside, default=0)

    def _enter(self, level: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for tensor in inputs:
            self.keep(tensor)
        self._now = level
        self._kept.setdefault(level, {})

    def _leave(self, _level: nn.Module, _inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        self._now = None


@functools.lru_cache(maxsize=32)  # a network of tens of millions of weights takes a second to make
def _sized(form: _Form, sample: tuple[int, ...], half: bool) -> tuple[int, int]:
    """Parameters of a network, and bytes that a forward pass over (B, *spatial) keeps for the backward pass."""
    network = form.build(len(sample) - 1)
    x = torch.empty(sample[0], form.in_channels, *sample[1:], device="meta")
    if half:
        network, x = network.bfloat16(), x.bfloat16()
    kept = _Kept(_levels(network) if form.recomputes else ())
    for weight in network.parameters():
        kept.keep(weight)
    weight_bytes = kept.size()
    with torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor):
        network(x)
    return sum(weight.numel() for weight in network.parameters()), kept.size() - weight_bytes


def _levels(network: nn.Module) -> list[nn.Module]:
    """What `EncoderDecoder.run` computes again."""
    assert isinstance(network, EncoderDecoder), "the registry says which networks recompute"
    return [*network.encoder, *network.decoder]


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
