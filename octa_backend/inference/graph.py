"""A network as a graph of any batch and size, which every export is made of.

Shapes: B scans, C channels, H x W pixels, K output channels, N tokens of D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from octa_backend.models.base import PaddedNetwork, PerAxis, along_each, resize
from octa_backend.models.regions import RegionsAsClasses, class_logits

SMALLEST_CELLS = 2
"""Sides of the deepest level at least: `torch.export` takes a size of 1 for a constant."""
EXAMPLE_CELLS = (3, 4, 6)
"""The deepest level's sides for the scans that are traced; unequal, so that the axes are told apart."""
AXES = ("slices", "rows", "columns")


class TracedAttention(nn.Module):
    """Self-attention with the weights of an `nn.MultiheadAttention`.

    The original folds the batch into the heads, and so its graph holds for one batch or for several, not for both.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        assert isinstance(original.in_proj_weight, Tensor)
        self.heads = original.num_heads
        self.in_weight, self.in_bias = original.in_proj_weight, original.in_proj_bias
        self.out = original.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """Attend from each token of `query` (B, N, D) to all of them; `key` and `value` are `query` too."""
        assert query is key is value
        assert not need_weights
        projected = F.linear(query, self.in_weight, self.in_bias)
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in projected.chunk(3, -1))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(attended), None


class GraphNetwork(nn.Module):
    """A network without its own padding: (B, C, H, W) with sides that fit to logits (B, K, H, W).

    Takes the network over: its attention layers are replaced.
    """

    network: nn.Module
    order: tuple[int, ...]

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        replace_attention(network)
        self.network, self.order = network, ()
        if isinstance(network, RegionsAsClasses):
            self.network, self.order = network.network, network.order

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, K, H, W)."""
        if isinstance(self.network, PaddedNetwork):
            return class_logits(resize(self.network.levels(x)[0], x.shape[2:]), self.order)
        return class_logits(self.network(x), self.order)


def replace_attention(network: nn.Module) -> None:
    """Put a `TracedAttention` in the place of every layer of self-attention over (B, N, D)."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention) and child.in_proj_weight is not None and child.batch_first:
                setattr(parent, name, TracedAttention(child))


def multiple_of(network: nn.Module) -> PerAxis:
    """What the sides of a network's padded input are multiples of, pixels: one number, or one for each axis where they
    differ.
    """
    found: PerAxis = getattr(network, "multiple", 1)
    if isinstance(found, int):
        return found
    return found[0] if len(set(found)) == 1 else tuple(found)


@torch.no_grad()
def trace(network: nn.Module, channels: int, spatial_dims: int = 2) -> ExportedProgram:
    """The graph of a network in evaluation mode, for any number of scans and any sides that are multiples of its own.

    Args:
        network: in evaluation mode, on the CPU; it is taken over.
        channels: of the scans.
        spatial_dims: 2 for pictures, 3 for volumes.

    Raises:
        torch._dynamo.exc.UserError: its graph depends on the number or the size of the scans.
    """
    multiples = along_each(multiple_of(network), spatial_dims)
    sides = [one * Dim(axis, min=SMALLEST_CELLS) for one, axis in zip(multiples, AXES[-spatial_dims:], strict=True)]
    shapes = {0: Dim("batch", min=1), **dict(enumerate(sides, start=2))}
    cells = zip(EXAMPLE_CELLS[-spatial_dims:], multiples, strict=True)
    example = torch.zeros(2, channels, *(number * one for number, one in cells))
    return torch.export.export(GraphNetwork(network).eval(), (example,), dynamic_shapes=(shapes,))
