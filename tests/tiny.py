"""Tiny prepared datasets and tiny networks, for tests that train or predict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from octa_backend.data.store import DatasetStore, StoreWriter
from octa_backend.data.synthetic import make_scan
from octa_backend.models import registry
from octa_backend.models.registry import NetworkEntry
from octa_backend.models.unet import UNet
from octa_backend.training.batches import TrainingData
from octa_backend.training.class_balance import class_pixels
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware

SLOW_CPU = Hardware("cpu", bf16_speedup=0.0, channels_last=False)


class SmallUNet(UNet):
    """The product's `UNet` with few features: trains in milliseconds."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__(in_channels, out_channels, features=(4, 8))


class Overflowing(SmallUNet):
    """What a learning rate that is too high ends in: logits that are not finite."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("inf")


class SteepAtZero(SmallUNet):
    """A finite loss with a gradient that is NaN: the square root is vertical at 0."""

    def forward(self, x: Tensor) -> Tensor:
        bias = self.head.bias
        assert bias is not None
        return super().forward(x) + (bias - bias.detach()).sqrt().view(1, -1, 1, 1)


class Pointwise(nn.Module):
    """One 1x1 convolution: a pixel's logits depend on that pixel alone, so flips and tiles change nothing."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.mix(x)
        return logits


class Normless(nn.Module):
    """Four convolutions without a norm: its gradients do not depend on how a batch is cut into parts."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1, spatial_dims: int = 2) -> None:
        super().__init__()
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        widths = [in_channels, 4, 4, 4, out_channels]
        self.layers = nn.ModuleList(convolution(i, o, 3, padding=1) for i, o in pairwise(widths))
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, head = self.layers
        for layer in hidden:
            x = self.dropout(layer(x).relu())
        logits: Tensor = head(x)
        return logits

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        return {name: list(layer.parameters()) for name, layer in zip(GRADIENT_GROUPS, self.layers, strict=True)}


class Forgetful(Normless):
    """Draws from torch's own random numbers."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1) -> None:
        super().__init__(in_channels, out_channels)
        self.dropout = nn.Dropout(0.5)


class Hungry(Normless):
    """Needs more memory than there is for over two scans at once in training."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


class Insatiable(Normless):
    """Needs more memory than there is for a single scan."""

    def forward(self, x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: tiny tensors gain nothing from several, and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def tiny_networks() -> Iterator[None]:
    """Enter the networks above in the registry for a while."""
    classes = {
        "small_unet": SmallUNet,
        "overflowing": Overflowing,
        "steep": SteepAtZero,
        "pointwise": Pointwise,
        "normless": Normless,
        "forgetful": Forgetful,
        "hungry": Hungry,
        "insatiable": Insatiable,
    }
    entries = {name: NetworkEntry(__name__, cls.__name__, "for tests") for name, cls in classes.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "NETWORKS", {**registry.NETWORKS, **entries})
        yield


def write_store(folder: Path, pairs, mask_values=(0, 1), splits=()) -> DatasetStore:
    """Prepare a dataset from images (C, H, W) and masks (H, W); scans are named s0, s1, …

    The first of them are in `splits`, the others in none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with StoreWriter(folder) as writer:
        for number, (image, mask) in enumerate(pairs):
            writer.add(f"s{number}", None, splits[number] if number < len(splits) else None, image, mask)
        writer.finish(mask_values)
    return DatasetStore(folder)


def synthetic_pairs(count: int, size: int = 32):
    """Synthetic grey scans with their masks."""
    scans = [make_scan(size, np.random.default_rng([7, index])) for index in range(count)]
    return [(scan.image[None], scan.mask.astype(np.uint8)) for scan in scans]


def training_data(store: DatasetStore, val: int = 1) -> TrainingData:
    """The last `val` scans validate, the others train."""
    cut = len(store) - val
    return TrainingData(store, train=tuple(range(cut)), val=tuple(range(cut, len(store))), test=())


def a_plan(data: TrainingData, hardware: Hardware = SLOW_CPU, **options) -> Plan:
    """The plan for a `TrainConfig` with these options."""
    store, train = data.store, data.train
    return make_plan(TrainConfig(**options), store.manifest, hardware, lambda: class_pixels(store, train))
