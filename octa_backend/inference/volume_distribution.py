"""Whether a volume is like those that a model was trained on: the numbers of `distribution` that suit volumes.

Intensities are looked at as the network sees them, after the normalisation: a scanner's scale means nothing, and where
the greys lie and how they change from voxel to voxel means much. Voxel size and extent are looked at as they are.

Shapes: C channels, D x H x W voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import Levels, Normalisation, measure, to_unit, unit_limits
from octa_backend.data.store import ScanEntry
from octa_backend.inference.distribution import summarise

MOST_VOXELS = 2**17
"""So many voxels of each channel, evenly spread, show its intensities."""

PERCENTILES = (5.0, 50.0, 95.0)
"""Of what is not empty: `low`, `middle` and `high`."""

SMALLEST_OF_CHANNEL: Mapping[str, float] = {
    "low": 0.25,
    "middle": 0.2,
    "high": 0.25,
    "skewness": 0.08,
    "sharpness": 0.25,
}
"""Smallest spreads of the numbers of each channel; intensities in deviations."""

SMALLEST_OF_ALL: Mapping[str, float] = {"empty": 0.08, "spacing": 0.3, "anisotropy": 0.3, "size": 0.4}
"""Of the numbers of the whole volume: the last three in powers of two."""

LEVELS = ("low", "middle", "high")
WITHIN_ONE = 0.25
"""Of intensities that a normalisation leaves in 0..1, whose deviation is about a quarter."""


def volume_features(
    image: NDArray[np.generic], normalisation: Normalisation, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """The numbers of one volume.

    Args:
        image: (C, D, H, W) as decoded, cropped to what is not 0.
        normalisation: of the model.
        spacing_mm: sides of a voxel; nothing where they are not known.

    Returns:
        Of each channel (with its number as ending where there are several): `low`, `middle` and `high`, the
        `PERCENTILES` of what lies above the least value, normalised; `skewness`, how much further the third lies above
        the mean than the first below it, in deviations; `sharpness`, the natural logarithm of the mean
        squared difference between neighbours over the variance. Of the whole: `empty`, the share of voxels that have
        the least value in every channel; `size`, binary logarithm of the cube root of the number of voxels; `spacing`
        and `anisotropy`, binary logarithms of the geometric mean of the sides in mm and of the
        longest over the shortest.
    """
    seen = _Seen(image, normalisation)
    found: dict[str, float] = {}
    for channel in range(image.shape[0]):
        ending = f"_{channel:04d}" if image.shape[0] > 1 else ""
        found |= {f"{name}{ending}": value for name, value in seen.of_channel(channel).items()}
    found |= {"empty": float(seen.is_empty.all(axis=0).mean()), "size": math.log2(math.prod(image.shape[1:])) / 3}
    if spacing_mm:
        found["spacing"] = math.log2(math.prod(spacing_mm)) / 3
        found["anisotropy"] = math.log2(max(spacing_mm) / min(spacing_mm))
    return found


def spacing_of_file(scan: ScanEntry) -> tuple[float, ...]:
    """Sides (D, H, W) that the voxels of a volume of a dataset had in its file, in mm; nothing where it knew none."""
    geometry = scan.geometry
    if geometry is None or not geometry.orientation:
        return ()
    if geometry.resampled_shape is None:
        return scan.spacing_mm
    sides = zip(scan.spacing_mm, geometry.resampled_shape, geometry.canonical_shape, strict=True)
    return tuple(side * resampled / own for side, resampled, own in sides)


class _Seen:
    """Some voxels of a volume and their neighbours, normalised by the levels that these voxels have."""

    def __init__(self, image: NDArray[np.generic], normalisation: Normalisation) -> None:
        step = max(1, math.ceil((math.prod(image.shape[1:]) / MOST_VOXELS) ** (1 / 3)))
        limits = unit_limits(image)
        first = tuple(slice(0, max(1, side - 1), step) for side in image.shape[1:])
        unit = to_unit(image[:, *first], limits)
        self.is_empty = unit <= unit.min(axis=(1, 2, 3), keepdims=True)
        self._levels = measure(unit, normalisation)
        self._values = _normalised(unit, self._levels)
        self._neighbours = [
            _normalised(to_unit(image[:, *_moved(first, axis, step)], limits), self._levels)
            for axis in range(3)
            if image.shape[1 + axis] > 1
        ]

    def of_channel(self, channel: int) -> dict[str, float]:
        """The numbers of one channel; 0 each of an empty one."""
        values = self._values[channel]
        inside = values[~self.is_empty[channel]]
        if not inside.size:
            return dict.fromkeys(SMALLEST_OF_CHANNEL, 0.0)
        steps = [float(np.square(other[channel] - values).mean()) for other in self._neighbours]
        change = sum(steps) / max(len(steps), 1)
        sharpness = math.log(max(change, 1e-9) / max(float(values.var()), 1e-9))
        low, middle, high = (float(level) for level in np.percentile(inside, PERCENTILES))
        skewness = (low + high - 2 * float(inside.mean())) / max(float(inside.std()), 1e-6)
        return {"low": low, "middle": middle, "high": high, "skewness": skewness, "sharpness": sharpness}


def _moved(first: Sequence[slice], axis: int, step: int) -> tuple[slice, ...]:
    """One voxel further along an axis."""
    return tuple(slice(1, one.stop + 1, step) if at == axis else one for at, one in enumerate(first))


def _normalised(unit: NDArray[np.float32], levels: Levels) -> NDArray[np.float32]:
    return levels.standardise(levels.stretch(unit))


def summarise_volumes(
    volumes: Iterable[Mapping[str, float]], channels: int, normalisation: Normalisation
) -> dict[str, Any]:
    """What is kept of the training volumes in a model's card, see `distribution.summarise`: what is known of all."""
    scale = 1.0 if normalisation in ("zscore", "zscore_nonzero") else WITHIN_ONE
    endings = [f"_{channel:04d}" for channel in range(channels)] if channels > 1 else [""]
    smallest = {
        f"{name}{ending}": spread * scale if name in LEVELS else spread
        for ending in endings
        for name, spread in SMALLEST_OF_CHANNEL.items()
    }
    rows = list(volumes)
    known = {
        name: spread for name, spread in {**smallest, **SMALLEST_OF_ALL}.items() if all(name in row for row in rows)
    }
    return summarise(rows, known)
