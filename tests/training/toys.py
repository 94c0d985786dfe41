"""A network small enough to compute by hand."""

from __future__ import annotations

import torch
from torch import nn

from octa_backend.training.events import GRADIENT_GROUPS


class Toy(nn.Module):
    """Two 1x1 convolutions without bias and a rectifier between; the ends are the groups' too, in pairs.

    The first makes two channels of one, the second one of two: `first.weight` is (2, 1, 1, 1), `second.weight`
    (1, 2, 1, 1).
    """

    def __init__(self, first=(3.0, 4.0), second=(1.0, 1.0)) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1, bias=False)
        self.active = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(2, 1, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(first).view(2, 1, 1, 1))
            self.second.weight.copy_(torch.tensor(second).view(1, 2, 1, 1))

    def forward(self, x):
        return self.second(self.active(self.first(x)))

    def gradient_groups(self):
        layers = (self.first, self.first, self.second, self.second)
        return {name: list(layer.parameters()) for name, layer in zip(GRADIENT_GROUPS, layers, strict=True)}
