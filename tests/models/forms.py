"""Each network of the registry, as small as it goes, with what the tests ask of all of them."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from octa_backend.models.network_shape import NetworkShape
from octa_backend.models.registry import NETWORKS

SMALL: dict[str, dict] = {
    "unet_transformer": {"features": (2, 4, 8, 16)},
    "unet": {"features": (4, 4, 4, 8, 8)},
    "tiny_unet": {"features": (2, 4, 4)},
    "monai_unet": {"channels": (4, 4, 8, 8, 8)},
    "attention_unet": {"channels": (4, 4, 8, 8)},
    "dynunet": {},
    "unet3d": {},
    "segresnet": {"init_filters": 8},
    "swin_unetr": {"feature_size": 12, "depths": (1, 1, 1, 1)},
    "lraspp_mobilenet_v3_large": {},
    "deeplabv3_resnet50": {},
}
FILTERS = {"dynunet": (4, 4, 8, 8, 8), "unet3d": (4, 4, 8, 8, 8), "unet_transformer": (2, 4, 8, 8, 16)}
"""Channels of networks whose form, here or in 3-D alone, takes a `NetworkShape`."""
HEAVY = ("deeplabv3_resnet50",)
"""As small as it goes is still 40 million parameters."""


def is_slow(name: str) -> bool:
    """Whether a test of this network takes over a second: MONAI's import does, and the heavy ones do."""
    return name in HEAVY or "monai" in NETWORKS[name].module


def each(names) -> list:
    """Parameters of a test, the slow ones marked so."""
    return [pytest.param(name, marks=pytest.mark.slow if is_slow(name) else ()) for name in names]


ALL = each(name for name, entry in NETWORKS.items() if 2 in entry.dimensions)
VOLUMETRIC = each(name for name, entry in NETWORKS.items() if 3 in entry.dimensions)
SUPERVISED = each(name for name, entry in NETWORKS.items() if entry.deep_supervision and 2 in entry.dimensions)


def network_class(name: str, spatial_dims: int = 2) -> type[nn.Module]:
    entry = NETWORKS[name]
    module, class_name = (spatial_dims == 3 and entry.volumetric) or (entry.module, entry.class_name)
    return getattr(importlib.import_module(module), class_name)


def small(name: str, in_channels: int = 1, out_channels: int = 1, **form) -> nn.Module:
    """A small network with weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dims = form.get("spatial_dims", 2)
        takes_shape = name in FILTERS and (dims == 3 or not NETWORKS[name].volumetric)
        size = {"shape": NetworkShape.even(dims, FILTERS[name])} if takes_shape else SMALL[name]
        made = network_class(name, dims)
        return made(in_channels=in_channels, out_channels=out_channels, **{**size, **form})
