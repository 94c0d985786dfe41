"""Faults of a network: each takes a new network and gives the faulty one. `tiny_unet` and `unet` have all of them.

Shapes: B scans, C channels, *spatial pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from octa_backend.models.tiny import WNet
from octa_backend.training.config import TrainConfig

FAR_BELOW = -10.0
"""Shift of a normalised channel (mean 0, deviation 1) behind which a rectifier gives 0 for every pixel."""

DEEP = (8,) * 6
"""Channels of the levels of the network without normalisation: twice as deep as `tiny_unet`."""

CALLS_TO_DOUBLE = 9
"""Training batches in which the emulated activations grow to twice their size: past fp16's 65504 after about 120, which
is later than the checks before the first step come."""


def as_built(network: nn.Module, _: TrainConfig) -> nn.Module:
    """No fault."""
    return network


def frozen(network: nn.Module, _: TrainConfig) -> nn.Module:
    """No weight of an encoder learns."""
    for name, parameter in network.named_parameters():
        if "encoder" in name:
            parameter.requires_grad_(False)
    return network


@torch.no_grad()
def zero_head(network: nn.Module, _: TrainConfig) -> nn.Module:
    """The convolutions that make logits begin with 0."""
    for name, parameter in network.named_parameters():
        if "head" in name:
            parameter.zero_()
    return network


@torch.no_grad()
def dead_rectifiers(network: nn.Module, _: TrainConfig) -> nn.Module:
    """Every normalisation before a rectifier shifts its channels so far down that nothing passes."""
    for norm in _before_rectifiers(network):
        assert isinstance(norm.bias, Tensor)
        norm.bias.fill_(FAR_BELOW)
    return network


def _before_rectifiers(network: nn.Module) -> Iterator[nn.Module]:
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            yield from (norm for norm, after in pairwise(part) if is_norm(norm) and isinstance(after, nn.ReLU))


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


def deep_without_norms(network: nn.Module, _: TrainConfig) -> nn.Module:
    """In place of the network one that is deeper and normalises nothing."""
    channels = next(p.shape[1] for p in network.parameters() if p.ndim == 4)
    deep = WNet(in_channels=channels, out_channels=1, features=DEEP)
    for parent in list(deep.modules()):
        for name, child in parent.named_children():
            if is_norm(child):
                setattr(parent, name, nn.Identity())
    return deep


def overflowing_half(network: nn.Module, config: TrainConfig) -> nn.Module:
    """Where the run is in fp16, the deepest activations grow until fp16 holds them no longer.

    A CPU does not train in fp16, so only this overflow is emulated: the activations are scaled up, rounded to fp16, and
    scaled down again; all else stays float32.
    """
    if config.precision == "fp16":
        deepest = network.group_modules()[1]  # type: ignore[operator]
        # A buffer: a run that goes back to a checkpoint has it as it was there.
        deepest.register_buffer("training_calls", torch.zeros((), dtype=torch.int64))
        deepest.register_forward_hook(_round_to_half)
    return network


def _round_to_half(module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
    """A forward hook that rounds what a layer gives, (B, C, *spatial), to fp16 at a scale that grows in training."""
    if not module.training:
        return None
    calls = module.get_buffer("training_calls").add_(1)
    scale = 2.0 ** (int(calls) / CALLS_TO_DOUBLE)
    rounded = (output.detach() * scale).to(torch.float16).to(output.dtype) / scale
    passed: Tensor = output + (rounded - output.detach())  # gradients pass as they are, for those the loss is scaled
    return passed
