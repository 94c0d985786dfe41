"""Networks with one sigmoid for each region, a union of classes, in place of one softmax over the classes.

Shapes: B scans, R regions, K = R + 1 classes with background, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from octa_backend.models.base import PerAxis


def class_logits(logits_BR: Tensor, order: Sequence[int]) -> Tensor:
    """From regions back to classes: where several regions are found, the last one overwrites the others.

    With a_i the largest logit of region i and those after it, the class of region i gets a_1 + … + a_i, the
    background 0. The largest is that of the last region whose probability is above one half. A softmax of them gives
    the neighbours in this order the odds that a sigmoid of a_i gives; of one region it is the sigmoid.

    Args:
        logits_BR: (B, R, *spatial) of regions, the largest first.
        order: the class that each of them adds to the smaller ones; all classes but 0, each once. Where it is empty the
            logits are of classes already, and stay as they are.

    Returns:
        float32 (B, K, *spatial), logits of a softmax.

    Source:
        The order in which regions overwrite each other: F. Isensee et al., nnU-Net for brain tumor segmentation, 2020
        (arXiv:2011.00848). Logits of neighbours that add up: A. Agresti, Categorical data analysis, 2002
        (adjacent-categories logits).
    """
    if not order:
        return logits_BR
    channels = list(logits_BR.float().unbind(1))
    for index in range(len(channels) - 2, -1, -1):
        channels[index] = torch.maximum(channels[index], channels[index + 1])
    total = torch.zeros_like(channels[0])
    of_class = {0: total}
    for number, channel in zip(order, channels, strict=True):
        total = total + channel
        of_class[number] = total
    return torch.stack([of_class[number] for number in range(len(of_class))], dim=1)


class RegionsAsClasses(nn.Module):
    """A network of regions that answers with the logits of classes; not for training.

    Args:
        network: gives logits (B, R, *spatial).
        order: see `class_logits`.

    Attributes:
        network, order: likewise.
        multiple: the network's own, what sides of its input are padded to.
    """

    network: nn.Module
    order: tuple[int, ...]

    def __init__(self, network: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.network, self.order = network, tuple(order)
        self.multiple: PerAxis = getattr(network, "multiple", 1)

    def forward(self, x_BC: Tensor) -> Tensor:
        """Map (B, C, *spatial) to logits (B, K, *spatial)."""
        return class_logits(self.network(x_BC), self.order)


def answering(network: nn.Module, order: Sequence[int]) -> nn.Module:
    """A trained network whose logits are of classes, whatever it learned; `order` is empty where it learned classes."""
    return RegionsAsClasses(network, order) if order else network
