"""Plain torch: the engine that every other one is compared with, and that answers where no other one can.

Shapes: B scans, C channels, H x W pixels (of volumes D x H x W voxels), K output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octa_backend.inference.model_folder import WEIGHTS_FILE, spatial_dims
from octa_backend.models import registry
from octa_backend.models.network_shape import NetworkShape
from octa_backend.models.regions import answering
from octa_backend.training.checkpoint import load_weights
from octa_backend.training.precision import autocast, memory_format


def load_network(folder: Path, card: Mapping[str, Any]) -> nn.Module:
    """The network of a model's folder in evaluation mode, on the CPU; its logits are of classes.

    Raises:
        UnknownNetwork: the card names a network that this version does not know.
        IncompatibleCheckpoint: the weights do not fit the card.
    """
    region_order = card.get("region_order", ())
    network = registry.build(
        card["network"],
        card["channels"],
        registry.out_channels(card["classes"], of_regions=bool(region_order)),
        spatial_dims(card),
        residual=card.get("residual", True),
        shape=NetworkShape.read(card.get("network_shape")),
    )
    load_weights(network, folder / WEIGHTS_FILE)
    return answering(network, region_order).eval()


class TorchEngine:
    """A network as it was trained, in `fp32` or `bf16`, on any device and for any size."""

    def __init__(self, network: nn.Module, device: str = "cpu", precision: str = "fp32", spatial_dims: int = 2) -> None:
        self.name = f"torch {precision}"
        self._device, self._precision = device, precision
        self._layout = memory_format(precision == "bf16", spatial_dims)
        self._network = network.to(device).to(memory_format=self._layout)

    @torch.inference_mode()
    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W)."""
        x_BCHW = x_BCHW.to(self._device).contiguous(memory_format=self._layout)
        with autocast(self._device, self._precision):
            logits: Tensor = self._network(x_BCHW)
        return logits.float().cpu()
