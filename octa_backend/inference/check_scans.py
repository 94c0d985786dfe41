"""Scans on which an export is compared with torch, or on which 8-bit integers are calibrated.

Shapes: C channels, H x W pixels, of volumes D x H x W voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import make_scan
from octa_backend.data.synthetic_volumes import make_volume
from octa_backend.inference.channels import match_channels
from octa_backend.inference.model_folder import spatial_dims

LONGEST_SIDE, LONGEST_VOLUME_SIDE = 768, 96
"""Of a scan that is looked at, pixels or voxels; the rest is left out, so that a check of huge scans ends soon."""
SYNTHETIC_SIZE, SYNTHETIC_VOLUME_SIZE = 256, 48
SYNTHETIC_SEED = 20240
"""Not one that the tests or benchmarks draw with, so that no model has been trained on these scans."""


@dataclass(frozen=True, slots=True)
class CheckScans:
    """Normalised scans, float32 (1, C, *spatial) each, and whose they are: "validation", "train" or "synthetic"."""

    source: str
    scans: tuple[Tensor, ...]


def check_scans(
    card: Mapping[str, Any], dataset: Path | None, split: Literal["val", "train"], count: int
) -> CheckScans:
    """The first scans of a split of the model's own dataset; drawn ones where the dataset is not there.

    Args:
        card: of the model.
        dataset: the prepared dataset that it was trained on, or None.
        split: which scans; never those of the test split.
        count: how many at most.
    """
    images = _own(card, dataset, split)[:count] if dataset else []
    source = {"val": "validation", "train": "train"}[split] if images else "synthetic"
    images = images or [_drawn(index, card) for index in range(count)]
    return CheckScans(source, tuple(_prepared(image, card) for image in images))


def _own(card: Mapping[str, Any], dataset: Path, split: str) -> list[NDArray[Any]]:
    store = DatasetStore(dataset)
    names = set(card.get("splits", {}).get(split, ()))
    return [store.image(at) for at, scan in enumerate(store.manifest.scans) if scan.name in names]


def _drawn(index: int, card: Mapping[str, Any]) -> NDArray[Any]:
    rng = np.random.default_rng([SYNTHETIC_SEED, index])
    if spatial_dims(card) == 2:
        return make_scan(SYNTHETIC_SIZE, rng).image[None]
    return np.stack([make_volume(SYNTHETIC_VOLUME_SIZE, rng).image] * card["channels"])


def _prepared(image_C: NDArray[Any], card: Mapping[str, Any]) -> Tensor:
    unit_C = to_unit(image_C)
    if spatial_dims(card) == 2:
        unit_C = match_channels(unit_C, card["channels"])
    normalised = normalise(unit_C, card.get("normalisation", "unit"))
    part = [slice(LONGEST_SIDE)] * 2 if spatial_dims(card) == 2 else [slice(LONGEST_VOLUME_SIDE)] * 3
    return torch.from_numpy(np.ascontiguousarray(normalised[None, :, *part]))
