"""Options of `TrainConfig` that volumes need: the shape of a sample, and regions of classes. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from octa_backend.errors import InvalidConfig

SHORTEST_SIDE, LONGEST_SIDE = 8, 1024
LEAST_PATCH_SIZE = 32
"""Of `patch_size`; the samples of small volumes may be smaller."""


def _sides_in_text(value: Any) -> Any:
    """Forms and the command line know text only: `96,96,96`, with or without brackets."""
    if not isinstance(value, str) or value == "auto":
        return value
    return value.strip().removeprefix("[").removesuffix("]").split(",")


Side = Annotated[int, Field(ge=SHORTEST_SIDE, le=LONGEST_SIDE)]
TargetShape = Annotated[tuple[Side, Side, Side] | Literal["auto"] | None, BeforeValidator(_sides_in_text)]
"""Voxels along D, H and W; `auto`: the plan finds it; None: the scans have two axes."""

BRATS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "brats": {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)},
    "brats2023": {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)},
}
"""Regions by the name of a preset: whole tumour, tumour core, enhancing tumour of the BraTS challenges. From 2023 on
the enhancing tumour has the value 3 in place of 4.

Source: S. Bakas et al., 2018 (arXiv:1811.02629)."""

LONGEST_NAME = 40


def _regions_in_text(value: Any) -> Any:
    """The name of a preset, or JSON."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in BRATS:
        return {name: list(values) for name, values in BRATS[text].items()}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        known = " or ".join(BRATS)
        raise ValueError(f'this is no preset ({known}) and not JSON such as {{"WT": [1, 2, 4]}}: {error}') from error


RegionName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
LabelValues = Annotated[tuple[Annotated[int, Field(ge=1, le=65_535)], ...], Field(min_length=1)]

_SCHEMA = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}},
        {"type": "string", "enum": list(BRATS)},
        {"type": "null"},
    ]
}

Regions = Annotated[
    dict[RegionName, LabelValues] | None, BeforeValidator(_regions_in_text), WithJsonSchema(_SCHEMA, mode="validation")
]
"""Values of the masks by the name of the region that they make up together."""


def region_classes(regions: Mapping[str, Sequence[int]], mask_values: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Which classes of a network make up each region.

    Args:
        regions: values of the masks by the region's name.
        mask_values: the value of class 0, 1, … of the network in the masks.

    Raises:
        InvalidConfig: the masks have no such value.
    """
    known = {value: index for index, value in enumerate(mask_values) if index}
    for name, values in regions.items():
        missing = [value for value in values if value not in known]
        if missing:
            raise InvalidConfig(
                f"the region {name} has the value {missing[0]}, but the masks have {', '.join(map(str, known))}"
            )
    return {name: tuple(sorted({known[value] for value in values})) for name, values in regions.items()}
