"""Models of volumes as they are published, without a training."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from octa_backend.inference.volume_predictor import VolumePredictor
from octa_backend.models import registry
from octa_backend.training.checkpoint import save_weights

PATCH = (16, 16, 16)


def volume_card(**facts):
    """The card of a tiny network for volumes of one channel and two classes."""
    return {
        "network": "tiny_unet",
        "spatial_dims": 3,
        "patch_shape": list(PATCH),
        "channels": 1,
        "classes": 2,
        "mask_values": [0, 1],
        "normalisation": "zscore_nonzero",
        **facts,
    }


def publish_volumes(folder: Path, **facts) -> Path:
    """A model's folder with random weights."""
    torch.manual_seed(0)
    card = volume_card(**facts)
    folder.mkdir(parents=True)
    network = registry.build(card["network"], card["channels"], registry.out_channels(card["classes"]), 3)
    save_weights(network, folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return folder


class Brightness(nn.Module):
    """Class k is the likeliest where the first channel, in 0..1, is nearest to k / (K - 1); looks at one voxel."""

    name = "brightness"

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.classes, self.sizes = classes, []

    def forward(self, x_BC: Tensor) -> Tensor:
        self.sizes.append(tuple(x_BC.shape[2:]))
        if self.classes == 2:
            return 40 * (x_BC[:, :1] - 0.5)
        places = torch.arange(self.classes) / (self.classes - 1)
        return torch.cat([-200 * (x_BC[:, :1] - place) ** 2 for place in places], dim=1)


def by_brightness(folder: Path, **facts) -> VolumePredictor:
    """A predictor whose mask is known: see `Brightness`."""
    folder.mkdir(parents=True, exist_ok=True)
    card = volume_card(normalisation="unit", **facts)
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return VolumePredictor(folder, [Brightness(card["classes"])])
