"""The `dataset.json` of the Decathlon and of nnU-Net: what channels and values of masks are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.pairing import Fault

_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class DatasetNames:
    """Names that a `dataset.json` gives.

    Attributes:
        channels: by their numbers.
        labels: by the value in the masks.
    """

    channels: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[int, ClassLabel] = field(default_factory=dict)


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
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return DatasetNames(), [Fault("dataset_json_not_understood", file, str(error)[:200])]
    return names, []


def _label(left: str, right: Any) -> tuple[int, ClassLabel]:
    value, name = (int(left), right) if left.isdecimal() else (right, left)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"label {left!r} has the value {right!r}")
    return value, ClassLabel(_name(name))


def _name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= _LONGEST_NAME:
        raise ValueError(f"{name!r} is no name")
    return name.strip()
