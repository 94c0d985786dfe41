"""The `dataset.json` of the Decathlon and of nnU-Net: what channels and values of masks are called.

That of a repaired dataset also says to which size its voxels were brought.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.pairing import Fault

_LONGEST_NAME = 100

COMMON_SPACING = "common_spacing_mm"
"""The field that the remedy `resample_spacing` writes: sides of a voxel, [D, H, W]."""


@dataclass(frozen=True, slots=True)
class DatasetNames:
    """What a `dataset.json` says.

    Attributes:
        channels: by their numbers.
        labels: by the value in the masks.
        common_spacing_mm: (D, H, W), of the voxels that `resample_spacing` brought the volumes to; empty where it was
            not applied.
    """

    channels: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[int, ClassLabel] = field(default_factory=dict)
    common_spacing_mm: tuple[float, ...] = ()


def read_dataset_json(data: bytes, file: str) -> tuple[DatasetNames, list[Fault]]:
    """Read the names of channels and labels.

    Channels are `channel_names` or `modality`, by number. Labels are written both ways: {"0": "background"} and
    {"background": 0}. Labels of several values (regions) are passed over.

    Returns:
        The names, and faults; a file with faults gives no names.
    """
    try:
        facts = json.loads(data.decode("utf-8-sig"))
        channels = facts.get("channel_names") or facts.get("modality") or {}
        names = DatasetNames(
            {int(number): _name(name) for number, name in channels.items()},
            dict(_label(left, right) for left, right in facts.get("labels", {}).items() if not isinstance(right, list)),
            _spacing(facts.get(COMMON_SPACING, [])),
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return DatasetNames(), [Fault("dataset_json_not_understood", file, str(error)[:200])]
    return names, []


def _label(left: str, right: Any) -> tuple[int, ClassLabel]:
    value, name = (int(left), right) if left.isdecimal() else (right, left)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"label {left!r} has the value {right!r}")
    return value, ClassLabel(_name(name))


def _spacing(sides: Any) -> tuple[float, ...]:
    if not isinstance(sides, list) or len(sides) not in (0, 3):
        raise ValueError(f"{COMMON_SPACING} is {sides!r}; it is three lengths in mm")
    lengths = tuple(float(side) for side in sides)
    if not all(0 < length < math.inf for length in lengths):
        raise ValueError(f"{COMMON_SPACING} is {sides!r}; lengths are above 0")
    return lengths


def _name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= _LONGEST_NAME:
        raise ValueError(f"{name!r} is no name")
    return name.strip()
