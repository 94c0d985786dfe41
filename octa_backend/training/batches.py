"""Batches of patches from prepared arrays: decoded once, cut anew every epoch.

Shapes: B patches, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octa_backend.data.normalise import to_unit
from octa_backend.data.store import DatasetStore
from octa_backend.training.augmentation import augment
from octa_backend.training.plan import Plan


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A dataset and which of its scans serve for what (indices into its manifest)."""

    store: DatasetStore
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """One scan and its mask at full size: float32 (1, C, H, W) in 0..1, int64 (1, H, W)."""
        image = torch.from_numpy(to_unit(self.store.image(index)))
        return image[None], torch.from_numpy(self.store.mask(index).astype(np.int64))[None]


def steps_per_epoch(train: Sequence[int], plan: Plan) -> int:
    """Batches of an epoch; the last one may be smaller."""
    return -(-len(train) * plan.patches_per_scan // plan.config.batch_size)


def training_batches(data: TrainingData, plan: Plan, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: every training scan `patches_per_scan` times, in random order, augmented on the plan's device.

    Yields:
        image float32 (B, C, H, W) in 0..1 and mask int64 (B, H, W), on the plan's device.
    """
    order = torch.tensor(data.train).repeat(plan.patches_per_scan)
    order = order[torch.randperm(len(order), generator=generator)]
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    for indices in torch.split(order, plan.config.batch_size):
        pairs = [_random_patch(data, int(index), plan.patch_shape, generator) for index in indices]
        image = torch.stack([pair[0] for pair in pairs]).to(plan.device, non_blocking=True)
        mask = torch.stack([pair[1] for pair in pairs]).to(plan.device, non_blocking=True)
        if plan.config.augmentation == "standard":
            image, mask = augment(image, mask, generator)
        yield image.contiguous(memory_format=layout), mask


def _random_patch(
    data: TrainingData, index: int, shape: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut a patch at a random place; what the scan lacks in size is mirrored in."""
    image, mask = data.store.image(index), data.store.mask(index)
    places = []
    for length, wanted in zip(mask.shape, shape, strict=True):
        room = max(0, length - wanted)
        start = int(torch.randint(room + 1, (), generator=generator))
        places.append(slice(start, start + wanted))
    # 8-bit scans are cut first; others are stretched by their whole range, so they are scaled first.
    cut = to_unit(image[:, *places]) if image.dtype == np.uint8 else to_unit(image)[:, *places]
    mask_cut = mask[tuple(places)]
    missing = [(0, wanted - length) for length, wanted in zip(mask_cut.shape, shape, strict=True)]
    if any(after for _, after in missing):
        cut = np.pad(cut, [(0, 0), *missing], mode="symmetric")
        mask_cut = np.pad(mask_cut, missing, mode="symmetric")
    return torch.from_numpy(np.ascontiguousarray(cut)), torch.from_numpy(mask_cut.astype(np.int64))
