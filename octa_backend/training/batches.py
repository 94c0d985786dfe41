"""Batches of patches from prepared arrays: decoded once, cut anew every epoch.

Shapes: B patches, C channels, *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.data.normalise import Levels, Normalisation, Number, measure, normalise, to_unit, unit_limits
from octa_backend.data.store import DatasetStore
from octa_backend.training.augmentation import augment
from octa_backend.training.augmentation_options import NONE, Augmentation
from octa_backend.training.foreground import patch_start
from octa_backend.training.gap_widths import kept_gap_widths
from octa_backend.training.ignored import network_classes, without_ignored
from octa_backend.training.loss_options import GAP_LOSSES
from octa_backend.training.plan import Plan
from octa_backend.training.precision import memory_format


class Measured(NamedTuple):
    """What a part of a scan needs to be normalised as the whole scan is."""

    limits: tuple[float, float]
    levels: Levels


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A dataset and which of its scans serve for what (indices into its manifest)."""

    store: DatasetStore
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    _measured: dict[tuple[int, Normalisation], Measured] = field(default_factory=dict, repr=False, compare=False)

    def whole(
        self, index: int, normalisation: Normalisation = "unit", ignore_index: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """One scan, normalised, and its mask at full size: float32 (1, C, *spatial), int64 (1, *spatial).

        The mask has the network's classes, see `network_classes`.
        """
        image = torch.from_numpy(normalise(to_unit(self.store.image(index)), normalisation))
        return image[None], torch.from_numpy(network_classes(self.store.mask(index), ignore_index))[None]

    def gap(self, index: int, plan: Plan) -> NDArray[np.float16] | None:
        """The widths of one scan's gaps between objects, (*spatial); None where the loss does not look at them."""
        if plan.config.loss not in GAP_LOSSES:
            return None
        return kept_gap_widths(self.store, index, plan.config.ignore_index)

    def measured(self, index: int, normalisation: Normalisation) -> Measured:
        """The numbers of one scan; the whole scan is read the first time only, and of 8-bit ones often never."""
        found = self._measured.get((index, normalisation))
        if found is None:
            image = self.store.image(index)
            limits = unit_limits(image)
            levels = Levels() if normalisation == "unit" else measure(to_unit(image, limits), normalisation)
            found = self._measured[index, normalisation] = Measured(limits, levels)
        return found


class Batch(NamedTuple):
    """Patches, float32 (B, C, *spatial), their masks, int64 (B, *spatial), and what a loss needs beside these.

    The masks have the network's classes, see `network_classes`. `gap`, float32 (B, *spatial), is the width of the gap
    between objects in which a pixel lies, see `gap_widths`; None where the loss does not look at it.
    """

    image: Tensor
    mask: Tensor
    gap: Tensor | None = None

    def split(self, size: int) -> Iterator[Batch]:
        """The same in parts of so many patches; the last one may have fewer."""
        images = torch.split(self.image, size)
        gaps = [None] * len(images) if self.gap is None else torch.split(self.gap, size)
        return itertools.starmap(Batch, zip(images, torch.split(self.mask, size), gaps, strict=True))


class Patches(NamedTuple):
    """Augmented patches, not standardised yet, and the scans that they are of."""

    batch: Batch
    scans: list[int]


def steps_per_epoch(train: Sequence[int], plan: Plan) -> int:
    """Optimizer steps of an epoch; the last one may see fewer scans."""
    return plan.steps(len(train))


def training_batches(data: TrainingData, plan: Plan, generator: torch.Generator) -> Iterator[Batch]:
    """One epoch: every training scan `patches_per_scan` times, in random order, augmented on the plan's device.

    A batch is what one optimizer step sees, so that neither order nor augmentation depend on how many of its scans are
    computed at once.

    Yields:
        Normalised patches, on the plan's device.
    """
    layout = memory_format(plan.channels_last, len(plan.patch_shape))
    for patches in augmented_patches(data, plan, generator):
        levels = [data.measured(scan, plan.normalisation).levels for scan in patches.scans]
        image = _standardised(patches.batch.image, levels).contiguous(memory_format=layout)
        yield patches.batch._replace(image=image)


def augmented_patches(data: TrainingData, plan: Plan, generator: torch.Generator) -> Iterator[Patches]:
    """The batches of one epoch as `training_batches` has them, but still in 0..1, as they can be looked at."""
    order = torch.tensor(data.train).repeat(plan.patches_per_scan)
    order = order[torch.randperm(len(order), generator=generator)]
    options = plan.config.augmentation_options
    for indices in torch.split(order, plan.scans_per_step):
        batch = _stacked([_random_patch(data, int(index), plan, generator) for index in indices], plan.device)
        if options != NONE:
            batch = _augmented(batch, generator, options, plan.spacing)
        yield Patches(batch, indices.tolist())


def _stacked(patches: Sequence[Batch], device: str) -> Batch:
    """Single patches, without an axis for several, as one batch on a device."""
    fields = ([one for one in field if one is not None] for field in zip(*patches, strict=True))
    return Batch(*(torch.stack(field).to(device, non_blocking=True) for field in fields if field))


def _augmented(batch: Batch, generator: torch.Generator, options: Augmentation, spacing: Sequence[float]) -> Batch:
    planes = None if batch.gap is None else batch.gap.unsqueeze(1)
    found = augment(batch.image, batch.mask, planes, generator, options, spacing)
    return Batch(found.image, found.mask, None if found.planes is None else found.planes[:, 0])


def _standardised(image_BC: Tensor, levels: Sequence[Levels]) -> Tensor:
    """Brightness is augmented in 0..1, so only now each patch is standardised, with the numbers of its whole scan."""
    if all((found.mean, found.deviation) == (0.0, 1.0) for found in levels):
        return image_BC
    mean = _per_channel([found.mean for found in levels], image_BC)
    deviation = _per_channel([found.deviation for found in levels], image_BC)
    return (image_BC - mean) / deviation


def _per_channel(numbers: Sequence[Number], image_BC: Tensor) -> Tensor:
    """Numbers of each scan, or of each of its channels, as wide as the scans, on their device."""
    values = torch.tensor(numbers, dtype=torch.float32).reshape(len(numbers), -1)
    return values.to(image_BC.device).view(*values.shape, *[1] * (image_BC.ndim - 2))


def _random_patch(data: TrainingData, index: int, plan: Plan, generator: torch.Generator) -> Batch:
    """Cut a patch, without an axis for several; what the scan lacks in size is mirrored in. The patch is in 0..1."""
    mask, shape = data.store.mask(index), plan.patch_shape
    share, ignored = plan.config.foreground_oversampling, plan.config.ignore_index
    assert share != "auto", "the plan resolves it"
    start = patch_start(without_ignored(mask, ignored), shape, share, generator)
    places = tuple(slice(first, first + wanted) for first, wanted in zip(start, shape, strict=True))
    limits, levels = data.measured(index, plan.normalisation)
    cut = levels.stretch(to_unit(data.store.image(index)[:, *places], limits))
    gap = data.gap(index, plan)
    mask_cut, gap_cut = mask[places], None if gap is None else gap[places].astype(np.float32)
    missing = [(0, wanted - length) for length, wanted in zip(mask_cut.shape, shape, strict=True)]
    if any(after for _, after in missing):
        cut = np.pad(cut, [(0, 0), *missing], mode="symmetric")
        mask_cut = np.pad(mask_cut, missing, mode="symmetric")
        gap_cut = None if gap_cut is None else np.pad(gap_cut, missing, mode="symmetric")
    return Batch(
        torch.from_numpy(np.ascontiguousarray(cut)),
        torch.from_numpy(network_classes(mask_cut, ignored)),
        None if gap_cut is None else torch.from_numpy(gap_cut),
    )
