"""A picture of what the network will see: augmented scans with their masks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from octa_backend.inference.pictures import overview
from octa_backend.training.batches import TrainingData, augmented_patches
from octa_backend.training.ignored import dataset_classes
from octa_backend.training.plan import Plan

COLUMNS = 4


def augmentation_sheet(data: TrainingData, plan: Plan, count: int = 16) -> NDArray[np.uint8]:
    """Draw the first patches of a training with the plan's seed, each beside itself with its mask laid over.

    They are drawn from a generator of their own: the training that follows is the same with and without the picture.
    Of volumes the slice is shown that holds most foreground. Brightness is shown before scans are standardised. Pixels
    of an ignored class are not tinted.

    Args:
        data: the scans.
        plan: how they are cut and augmented.
        count: how many patches; small datasets come again with other draws.

    Returns:
        uint8, (H, W, 3).
    """
    pairs = list(itertools.islice(_patches(data, plan), count))
    return overview(pairs, plan.dataset_classes, COLUMNS, data.store.manifest.labels)


def _patches(data: TrainingData, plan: Plan) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Patches (C, H, W) and masks (H, W), epoch after epoch, without end."""
    generator = torch.Generator().manual_seed(plan.config.seed)
    while True:
        for patches in augmented_patches(data, plan, generator):
            shown = patches.batch.mask.clamp_min(0).to(torch.uint8).cpu().numpy()
            masks = dataset_classes(shown, plan.config.ignore_index)
            for image, mask in zip(patches.batch.image.cpu().numpy(), masks, strict=True):
                yield _slice(image, mask)


def _slice(image: NDArray[np.float32], mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    if mask.ndim == 2:
        return image, mask
    fullest = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
    return image[:, fullest], mask[fullest]
