"""What a plan decides for volumes alone: the shape of a training sample, and what augmentation leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from octa_backend.data.store import Manifest
from octa_backend.errors import InvalidConfig
from octa_backend.training.config import TrainConfig
from octa_backend.training.network_plan import fitting
from octa_backend.training.plan_draft import Draft

Shape = tuple[int, ...]

FAST_VOXELS, SLOW_VOXELS = 128**3, 64**3
"""Of a training sample at most, where the plan chooses it."""
LEAST_VOXELS = 32**3
"""Where memory is short; a smaller sample would show too little of what surrounds a structure."""
LEAST_SIDE = 8
"""Of a sample; thinner scans are mirrored up to it."""

ARTEFACTS = ("motion", "shadow", "saturation")
"""Of OCTA scanners and eyes: volumes come from other devices."""


def choose_target_shape(
    median: Sequence[int], spacing: Sequence[float], fast: bool, fits: Callable[[Shape], bool]
) -> tuple[Shape, str]:
    """The shape of a sample where it is left open, and why.

    Args:
        median: shape of the scan in the middle.
        spacing: sides of a voxel along each axis; empty: all alike.
        fast: whether the device is a GPU or computes quickly in half precision.
        fits: whether the device's memory holds a training on such samples.
    """
    wanted = voxels = FAST_VOXELS if fast else SLOW_VOXELS
    shape = sample_within(median, spacing, voxels)
    while not fits(shape) and voxels > LEAST_VOXELS:
        voxels //= 2
        shape = sample_within(median, spacing, voxels)
    named = "x".join(map(str, median))
    if all(side >= length for side, length in zip(shape, median, strict=True)):
        return shape, f"the median scan, {named}, is trained whole, with sides that the network can halve"
    bound = "that the memory of this device holds" if voxels < wanted else f"of at most {voxels} voxels"
    return shape, f"the part of the median scan, {named}, {bound}, as long along every axis in mm as the scan allows"


def sample_within(median: Sequence[int], spacing: Sequence[float], voxels: int) -> Shape:
    """The largest sample of about equal length along all axes that holds at most so many voxels before rounding.

    Axes along which the median scan is shorter are taken whole; what they leave goes to the others.
    """
    lengths = [float(side) for side in (spacing or [1.0] * len(median))]
    low, high = 0.0, max(side * length for side, length in zip(median, lengths, strict=True))

    def cut(edge: float) -> list[float]:
        sides = zip(median, lengths, strict=True)
        return [max(float(LEAST_SIDE), min(float(side), edge / length)) for side, length in sides]

    if math.prod(cut(high)) <= voxels:
        low = high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(cut(middle)) <= voxels else (low, middle)
    return fitting([round(side) for side in cut(low)], spacing)


def take_target_shape(wanted: Sequence[int], manifest: Manifest, spacing: Sequence[float]) -> Shape:
    """The shape that was asked for, no longer than the largest scan, with sides that halve without a rest."""
    largest = (max(sides) for sides in zip(*(scan.shape for scan in manifest.scans), strict=True))
    return fitting([max(LEAST_SIDE, min(pair)) for pair in zip(wanted, largest, strict=True)], spacing)


def refuse_for_pictures(config: TrainConfig) -> None:
    """Options for volumes have no meaning in two dimensions.

    Raises:
        InvalidConfig: the shape of a volume was asked for.
    """
    if config.target_shape not in ("auto", None):
        shape = ",".join(map(str, config.target_shape))
        raise InvalidConfig(
            f"target_shape={shape} is for volumes, and these scans are pictures of two axes; give patch_size instead"
        )


def leave_out_artefacts(draft: Draft) -> None:
    """Volumes are not augmented with what only scans of OCTA devices have."""
    overrides = without_artefacts(draft.config)
    if overrides is not None:
        why = "motion lines, shadows and saturation are artefacts of OCTA scans, and these are volumes"
        draft.take({"augmentation_overrides": draft.note("augmentation_overrides", overrides, why)})


def without_artefacts(config: TrainConfig) -> dict[str, Any] | None:
    """The overrides of augmentation that leave out what only OCTA scans have; None where there is nothing to leave out.

    An artefact of which the user set a number stays.
    """
    given = config.augmentation_overrides or {}
    options = config.augmentation_options
    drawn = [
        f"{name}_probability"
        for name in ARTEFACTS
        if getattr(options, f"{name}_probability") > 0 and not any(one.startswith(f"{name}_") for one in given)
    ]
    return {**given, **dict.fromkeys(drawn, 0.0)} if drawn else None
