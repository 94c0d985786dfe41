"""The networks by name. API, CLI, configs and checkpoints name a network by a key of `NETWORKS`.

Names are known without importing torch; a network's module is imported when it is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from octa_backend.errors import UnknownNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """Where a network's class is, and what to say of it."""

    module: str
    class_name: str
    summary: str


NETWORKS: Mapping[str, NetworkEntry] = {
    "unet_transformer": NetworkEntry(
        "octa_backend.models.unet", "UNet_Transformer", "31.4 M parameters: gated skips, transformer bottleneck"
    ),
    "unet": NetworkEntry(
        "octa_backend.models.unet", "UNet", "8.5 M parameters: residual, channel attention; for small datasets"
    ),
}


class SegmentationNetwork(Protocol):
    """What the engine asks of a network beside being an `nn.Module`: logits of the input's size, and its groups."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to logits (B, K, *spatial)."""

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        """`encoder_conv1`, `encoder_last`, `decoder_first` and `decoder_output`."""


def check_name(name: str) -> str:
    """Return `name` if a network has it, else raise `UnknownNetwork` that lists the names there are."""
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise UnknownNetwork(f"no network is called {name!r}; choose one of: {known}")
    return name


def build(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """Make a freshly initialised network.

    Args:
        name: a key of `NETWORKS`.
        in_channels: channels of the scans.
        out_channels: 1 for binary masks, else the number of classes.

    Raises:
        UnknownNetwork: no network has this name.
    """
    entry = NETWORKS[check_name(name)]
    network_class = getattr(importlib.import_module(entry.module), entry.class_name)
    return cast("nn.Module", network_class(in_channels=in_channels, out_channels=out_channels))
