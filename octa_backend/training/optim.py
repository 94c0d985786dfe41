"""Optimizers, and the running average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from octa_backend.training.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimizer, fused: one kernel over all weights instead of several passes per tensor.

    Its learning rate is set anew at each step; see `schedules`.

    Source:
        adam: D. P. Kingma and J. Ba, 2015 (arXiv:1412.6980); its weight decay is added to the gradient.
        adamw: I. Loshchilov and F. Hutter, 2019 (arXiv:1711.05101); its weight decay is apart from the gradient.
        sgd: I. Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """
    groups = parameter_groups(network, config.weight_decay)
    lr = 0.0 if config.lr == "auto" else config.lr  # still open only where a run was stopped before it began
    assert config.optimizer != "auto", "make_plan resolves it"
    match config.optimizer:
        case "adam":
            return Adam(groups, lr=lr, fused=True)
        case "adamw":
            return AdamW(groups, lr=lr, fused=True)
        case "sgd":
            return SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, with weight decay; biases and the norms' scales and shifts, without.

    The second are told by their shape, fewer than two axes, or by `bias` in their name (position biases have two axes).
    An empty group is left out.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_spared = parameter.ndim < 2 or "bias" in name.rpartition(".")[2]
        (spared if is_spared else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Go on with the moments of a checkpoint. Its rate, decay and momentum give way to the optimizer's own."""
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)


class WeightAverage:
    """A running average of a network's weights and statistics, with which it is validated and published.

    The decay warms up as (1 + n) / (10 + n) after n steps, so that early weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, averaged: nn.Module, decay: float) -> None:
        self.network = network
        self.averaged = averaged.requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's current weights into the average."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.decay else 0.0
        live = self.network.state_dict()
        for name, mean in self.averaged.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(live[name], 1 - keep)
            else:
                mean.copy_(live[name])
