"""What a plan decides about patches: their size, and how many are cut from each scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from octa_backend.data.store import Manifest
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_plan import Decide

FAST_PATCH, SLOW_PATCH = 512, 256
"""Sides in pixels."""
LEAST_OPEN_PATCH = 64
"""Where memory is short; a smaller patch would show too little of what surrounds a structure."""
MIN_PATCH = 32
"""Smaller scans are mirrored up to it: four halvings must leave more than one pixel for the batch's statistics."""
PICTURE_MULTIPLE = 16
"""Sides of patches are multiples of it: networks halve pictures four times."""
OVERSAMPLING = 0.33
"""Share of the patches that nnU-Net cuts around foreground (F. Isensee et al., 2021)."""
SPARSE_FOREGROUND = 0.05
"""With less foreground a patch may well show none; vessels (7 to 15 %) are everywhere."""
SCANS_PER_PATCH = 4
"""A patch may stand for so many times its own area per epoch; larger scans give several patches."""


def choose_patch_size(fast: bool, fits: Callable[[int], bool]) -> tuple[int, str]:
    """The side of a patch of pictures where it is left open, and why; for volumes see `volume_plan`.

    Args:
        fast: whether the device is a GPU or computes quickly in half precision.
        fits: whether the device's memory holds a training on patches of this side.
    """
    wanted = size = FAST_PATCH if fast else SLOW_PATCH
    while not fits(size) and size > LEAST_OPEN_PATCH:
        size //= 2
    if size < wanted:
        return size, f"a training on patches of {2 * size} pixels would not fit into the memory of this device"
    if fast:
        return size, f"scans up to {size} pixels are trained whole on this device"
    return size, (
        f"scans up to {size} pixels are trained whole; larger ones would take long without fast bf16, and a new square "
        "of each per epoch shows enough of it"
    )


def patch_shape(manifest: Manifest, patch_size: int) -> tuple[int, ...]:
    """The largest scan's sides, at most `patch_size`, at least `MIN_PATCH`, rounded up to `PICTURE_MULTIPLE`."""
    largest = [max(sides) for sides in zip(*(scan.shape for scan in manifest.scans), strict=True)]
    one = PICTURE_MULTIPLE
    return tuple(-(-max(MIN_PATCH, min(side, patch_size)) // one) * one for side in largest)


def patches_per_scan(manifest: Manifest, shape: Sequence[int]) -> int:
    """So many that a patch stands for at most `SCANS_PER_PATCH` times its own area of the mean scan."""
    area = sum(math.prod(scan.shape) for scan in manifest.scans) / len(manifest.scans)
    return max(1, round(area / (SCANS_PER_PATCH * math.prod(shape))))


def choose_oversampling(manifest: Manifest, shape: Sequence[int]) -> tuple[float, str]:
    """The share of patches cut around foreground where it is left open, and why."""
    if not is_cut(manifest, shape):
        return 0.0, "no scan is larger than a patch"
    fraction = manifest.foreground_fraction
    if fraction < SPARSE_FOREGROUND:
        return OVERSAMPLING, f"only {fraction:.1%} of the pixels are foreground, so many patches would show none"
    return 0.0, f"{fraction:.1%} of the pixels are foreground, so patches cut anywhere show enough of it"


def is_cut(manifest: Manifest, shape: Sequence[int]) -> bool:
    """Whether a scan is larger than a patch."""
    return any(side > wanted for scan in manifest.scans for side, wanted in zip(scan.shape, shape, strict=True))


def name_idle_options(config: TrainConfig, manifest: Manifest, shape: Sequence[int], decide: Decide) -> None:
    """Say which options of patches and augmentation were changed that have no effect on these scans."""
    value = config.foreground_oversampling
    if value != "auto" and not is_cut(manifest, shape):
        decide("foreground_oversampling", value, "this has no effect: no scan is larger than a patch")
    overrides = config.augmentation_overrides
    if overrides and "flip_z_probability" in overrides and manifest.spatial_dims == 2:
        decide("augmentation_overrides", overrides, "flip_z_probability has no effect: the scans have no slices")
