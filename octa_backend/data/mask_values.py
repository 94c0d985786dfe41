"""Which values, or which colours, a mask has, and how many pixels of each."""

# Shapes: H x W pixels.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.greys import counts_of
from octa_backend.data.masks import HIGHEST_CLASS_VALUE, MAX_CLASSES, MaskValues, values_of

MAX_COLOURS = 64
"""So many of a coloured mask's colours are kept."""

Colours = tuple[tuple[tuple[int, int, int], int], ...]
"""(red, green, blue) -> pixels, the commonest first."""


def values_and_counts(mask_HW: NDArray[Any]) -> tuple[MaskValues, tuple[tuple[int, int], ...]]:
    """The different values, and how many pixels have each where there are not too many."""
    if mask_HW.dtype.itemsize > 2:
        values, (there, counts) = values_of(mask_HW), np.unique(mask_HW, return_counts=True)
    else:
        there, counts = _few_counts(mask_HW)
        values = MaskValues(len(there), tuple(there[: MAX_CLASSES + 1].tolist()), int(there[-1]))
    few = values.count <= MAX_CLASSES
    return values, tuple(zip(there.tolist(), counts.tolist(), strict=True)) if few else ()


def _few_counts(mask_HW: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that occur, rising, and their pixels. Two values, the usual case, need no histogram."""
    low, high = mask_HW.min(), mask_HW.max()
    at_low, at_high = (int(np.count_nonzero(mask_HW == value)) for value in (low, high))
    if low == high or at_low + at_high == mask_HW.size:
        pairs = {int(low): at_low, int(high): at_high}
        return np.array(list(pairs)), np.array(list(pairs.values()))
    in_all = counts_of(mask_HW)
    there = np.flatnonzero(in_all)
    return there, in_all[there]


def is_plain(values: MaskValues) -> bool:
    """Whether the values are 0 and one other, or class numbers."""
    numbers = values.lowest[0] >= 0 and values.highest <= HIGHEST_CLASS_VALUE and values.count <= MAX_CLASSES
    return values.is_two_valued or numbers


def histogram_of(mask_HW: NDArray[Any]) -> NDArray[np.int64]:
    """Pixels per value 0..255; of a mask with higher values per high byte of 16. Values beyond are cut."""
    if mask_HW.dtype != np.uint8:
        mask_HW = np.clip(mask_HW, 0, np.iinfo(np.uint16).max) >> (8 if mask_HW.max() > 255 else 0)
    return counts_of(mask_HW.astype(np.uint8, copy=False))


def commonest_colours(packed: NDArray[np.uint32], areas: NDArray[np.int64]) -> Colours:
    """Colours with their areas.

    If there are more than `MAX_COLOURS`, those alike in the upper 4 bits of each channel are counted as the commonest
    one of them, and the `MAX_COLOURS` largest are kept: smoothed edges have thousands of shades.

    Args:
        packed: different colours as 0xrrggbb.
        areas: pixels of each.
    """
    commonest = np.argsort(-areas, kind="stable")
    packed, areas = packed[commonest], areas[commonest]
    if len(packed) > MAX_COLOURS:
        _, first, place = np.unique(packed & 0xF0F0F0, return_index=True, return_inverse=True)
        packed, areas = packed[first], np.bincount(place, weights=areas).astype(np.int64)
        largest = np.argsort(-areas, kind="stable")[:MAX_COLOURS]
        packed, areas = packed[largest], areas[largest]
    return tuple(((c >> 16, c >> 8 & 255, c & 255), n) for c, n in zip(packed.tolist(), areas.tolist(), strict=True))
