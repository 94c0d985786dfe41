"""Which values, or which colours, a mask has, and how many pixels of each."""

# Shapes: H x W pixels.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from octa_backend.data.greys import counts_of
from octa_backend.data.masks import HIGHEST_CLASS_VALUE, MAX_CLASSES, MaskValues

MAX_COLOURS = 64
"""So many of a coloured mask's colours are kept."""

MOST_LEVELS = 8
"""Masks of so few values may have grey levels for classes; more come from smoothing or JPEG."""

_EDGE_WINDOW = 5
"""Side in pixels: an edge of one or two pixels has what it lies between within it."""

Areas = tuple[tuple[int, int], ...]
"""Value -> pixels, in rising order."""

Colours = tuple[tuple[tuple[int, int, int], int], ...]
"""(red, green, blue) -> pixels, the commonest first."""


def values_and_counts(masks_NHW: NDArray[Any]) -> list[tuple[MaskValues, Areas]]:
    """The different values of each mask, and how many pixels have each where there are not too many."""
    if masks_NHW.dtype.itemsize > 2:
        found = [np.unique(mask_HW, return_counts=True) for mask_HW in masks_NHW]
        return [_described(dict(zip(there.tolist(), areas.tolist(), strict=True))) for there, areas in found]
    low_N, high_N = masks_NHW.min(axis=(1, 2)), masks_NHW.max(axis=(1, 2))
    at_low, at_high = (map(np.count_nonzero, masks_NHW == value_N[:, None, None]) for value_N in (low_N, high_N))
    described = []
    for mask_HW, low, n, high, m in zip(masks_NHW, low_N.tolist(), at_low, high_N.tolist(), at_high, strict=True):
        extremes = {low: int(n), high: int(m)}  # most masks have no other values, and need no histogram
        described.append(_described(extremes if sum(extremes.values()) == mask_HW.size else _areas(mask_HW)))
    return described


def _areas(mask_HW: NDArray[Any]) -> dict[int, int]:
    """Value -> pixels, of the values that occur, rising."""
    in_all = counts_of(mask_HW)
    there = np.flatnonzero(in_all)
    return dict(zip(there.tolist(), in_all[there].tolist(), strict=True))


def _described(areas: Mapping[int, int]) -> tuple[MaskValues, Areas]:
    there = list(areas)
    values = MaskValues(len(there), tuple(there[: MAX_CLASSES + 1]), there[-1])
    return values, tuple(areas.items()) if values.count <= MAX_CLASSES else ()


def is_plain(values: MaskValues) -> bool:
    """Whether the values are 0 and one other, or class numbers."""
    numbers = values.lowest[0] >= 0 and values.highest <= HIGHEST_CLASS_VALUE and values.count <= MAX_CLASSES
    return values.is_two_valued or numbers


def histogram_of(mask_HW: NDArray[Any]) -> NDArray[np.int64]:
    """Pixels per value 0..255; of a mask with higher values per high byte of 16. Values beyond are cut."""
    if mask_HW.dtype != np.uint8:
        mask_HW = np.clip(mask_HW, 0, np.iinfo(np.uint16).max) >> (8 if mask_HW.max() > 255 else 0)
    return counts_of(mask_HW.astype(np.uint8, copy=False))


def standing_pixels(mask_HW: NDArray[Any], areas: Areas) -> Areas:
    """Of each value between the lowest and the highest, how many pixels are no edge.

    An edge lies between a lower and a higher value, or beside a lower one that is itself between others: the shades of
    a smoothed vessel. Around a class there is mostly background.

    Args:
        mask_HW: whole numbers.
        areas: its values, at most `MOST_LEVELS`, or nothing is counted.
    """
    values = [value for value, _ in areas]
    if not 3 <= len(values) <= MOST_LEVELS:
        return ()
    ranks_HW = np.searchsorted(values, mask_HW).astype(np.uint8)
    shades_HW = np.where(ranks_HW == 0, np.uint8(len(values)), ranks_HW)
    lowest, highest = ImageFilter.MinFilter(_EDGE_WINDOW), ImageFilter.MaxFilter(_EDGE_WINDOW)
    is_edge_HW = (_filtered(ranks_HW, lowest) < ranks_HW) & (_filtered(ranks_HW, highest) > ranks_HW)
    is_edge_HW |= _filtered(shades_HW, lowest) < ranks_HW
    standing = np.bincount(ranks_HW[~is_edge_HW], minlength=len(values)).tolist()
    return tuple(zip(values[1:-1], standing[1:-1], strict=True))


def _filtered(ranks_HW: NDArray[np.uint8], kind: ImageFilter.RankFilter) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(ranks_HW).filter(kind))


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
