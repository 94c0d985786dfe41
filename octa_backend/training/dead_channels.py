"""Channels of activation layers that are 0 for every pixel of every scan of a batch: nothing behind them learns."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardswish)
"""Activations that are exactly 0 over a range, or where their input is. GELU, SiLU and ELU are not."""


class DeadChannels:
    """Watches the activation layers of a network during single steps, by hooks that are there no longer than that.

    Only layers that are modules are seen, not calls of `torch.relu` inside a `forward`. Layers behind a global pooling,
    with one value per scan, are left out: with few scans their channels are 0 by chance. A layer that a pass goes
    through several times, as it does in torchvision's residual blocks, is seen with each number of channels.

    Args:
        network: to watch; not a compiled one, which would be compiled anew for each change of its hooks.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = {name: module for name, module in network.named_modules() if isinstance(module, RECTIFIERS)}
        self._handles: list[RemovableHandle] = []
        self._alive: dict[str, dict[int, Tensor]] = {}  # of a layer, by its number of channels

    def watch(self) -> None:
        """Begin anew with the passes that follow."""
        self.stop()
        self._alive = {}
        self._handles = [layer.register_forward_hook(partial(self._see, name)) for name, layer in self._layers.items()]

    def stop(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def _see(self, name: str, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        axes = [axis for axis in range(output.ndim) if axis != 1]
        if output[0, 0].numel() == 1:
            return
        alive = output.ne(0).any(dim=axes)
        seen = self._alive.setdefault(name, {})
        seen[len(alive)] = seen[len(alive)] | alive if len(alive) in seen else alive

    def fractions(self) -> dict[str, float]:
        """Per layer the share of channels that were 0 in all passes watched last; empty if there were none."""
        if not self._alive:
            return {}
        alive = torch.stack([torch.cat([*seen.values()]).float().mean() for seen in self._alive.values()]).tolist()
        return {name: 1 - share for name, share in zip(self._alive, alive, strict=True)}
