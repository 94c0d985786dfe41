"""Optimizers, and the learning rate as a pure function of where the run is, so that a resumed run needs no state."""

from __future__ import annotations

import math

import torch
from torch import nn

from octa_backend.training.config import TrainConfig

ONECYCLE_WARM_UP = 0.3  # share of all steps until the peak, as in torch's OneCycleLR
ONECYCLE_START = 1 / 25  # of the peak
ONECYCLE_END = 1e-4  # of the start


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, fused: one kernel over all weights instead of several passes per tensor."""
    chosen: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return chosen(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """The learning rate of one step.

    Args:
        config: names schedule, peak and number of epochs.
        epoch: from 1.
        step: from 1, within the epoch.
        steps: steps per epoch.
    """
    done = ((epoch - 1) * steps + step - 1) / (config.epochs * steps)
    match config.scheduler:
        case "step":
            return config.lr * config.gamma ** ((epoch - 1) // config.step_size)
        case "cosine":
            return config.lr * (1 + math.cos(math.pi * done)) / 2
        case "onecycle":
            return config.lr * _onecycle(done)
        case "constant":
            return config.lr


def _onecycle(done: float) -> float:
    """Factor of the peak: a cosine up, then a cosine down (L. N. Smith, arXiv:1708.07120)."""
    if done < ONECYCLE_WARM_UP:
        low, share = ONECYCLE_START, 1 - done / ONECYCLE_WARM_UP
    else:
        low, share = ONECYCLE_START * ONECYCLE_END, (done - ONECYCLE_WARM_UP) / (1 - ONECYCLE_WARM_UP)
    return low + (1 - low) * (1 + math.cos(math.pi * share)) / 2


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
