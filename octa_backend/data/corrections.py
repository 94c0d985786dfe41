"""What a remedy does to the pixels of one mask. Nothing here knows files; None is the answer where nothing changes."""

# Shapes: C channels, H x W pixels.

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import to_unit
from octa_backend.data.scans import MaskPixels

BLOCK_PIXELS = 2**16
"""Pixels worked on at a time where the work needs many bytes per pixel."""

SAMPLED_PIXELS = 2**20
"""As many pixels as tell one turn from another; larger images are thinned out to about that many."""

TURNS = ("none", "transpose", "rotate_90", "rotate_270")
SIDES_SWAPPED = ("transpose", "rotate_90", "rotate_270")
"""The turns that swap width and height, in the order in which they win where the image cannot tell them apart."""

HIGHEST_VALUE = np.iinfo(np.uint16).max
_COLOUR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


class Corrected(NamedTuple):
    """A mask after a remedy, and in JSON-serialisable facts what was really changed."""

    mask: MaskPixels
    facts: dict[str, Any]


# --- values -------------------------------------------------------------------------------------------------------


def map_colours(mask: MaskPixels, colours: Mapping[str, int]) -> Corrected | None:
    """Give every pixel the value of the nearest colour, by squared distance in RGB; of equally near ones the lowest.

    A mask without colours is taken as the greys it shows.

    Args:
        mask: the mask.
        colours: "#rrggbb" -> value, 0 to 65,535.

    Returns:
        Facts: `colours_before`, how many the mask had; `other_colours`, how many of them the map does not hold; and
        `nearest_pixels`, how many pixels have one of these.

    Raises:
        ValueError: the map is empty or not one, or a mask without colours has values that are no greys.
    """
    table_K3, values_K = _colour_table(colours)
    rgb_HWC = _greys(mask) if mask.rgb is None else mask.rgb
    mapped_HW = np.empty(rgb_HWC.shape[:2], values_K.dtype)
    others, nearest_pixels = np.zeros(2**24, np.bool_), 0
    for rows in _blocks(rgb_HWC.shape):
        block_NC = rgb_HWC[rows].reshape(-1, 3)
        nearest_N, is_other_N = _nearest(block_NC, table_K3)
        mapped_HW[rows] = values_K[nearest_N].reshape(mapped_HW[rows].shape)
        others[_packed(block_NC[is_other_N])] = True
        nearest_pixels += int(np.count_nonzero(is_other_N))
    if mask.values is not None and np.array_equal(mapped_HW, mask.values):
        return None
    return Corrected(
        MaskPixels(mapped_HW),
        {
            "colours_before": mask.colour_count if mask.values is None else _count_values(mask.values),
            "other_colours": int(np.count_nonzero(others)) if nearest_pixels else 0,
            "nearest_pixels": nearest_pixels,
        },
    )


def binarize(mask: MaskPixels, threshold: float) -> Corrected | None:
    """Make values above the threshold 255, and others 0.

    Returns:
        Facts: `pixels`, how many have another value now; `values_before`, how many different ones there were;
        `foreground_after`, the share of pixels that are 255.

    Raises:
        ValueError: the mask is coloured.
    """
    before_HW = _values(mask)
    after_HW = (before_HW > threshold).view(np.uint8) * np.uint8(255)
    changed = int(np.count_nonzero(after_HW != before_HW))
    if not changed:
        return None
    facts = {"pixels": changed, "values_before": _count_values(before_HW), "foreground_after": _foreground(after_HW)}
    return Corrected(MaskPixels(after_HW), facts)


def invert(mask: MaskPixels) -> Corrected:
    """Make 0 to 255, and everything else to 0.

    Returns:
        Facts: `foreground_before` and `foreground_after`, the shares of pixels that are not 0.

    Raises:
        ValueError: the mask is coloured.
    """
    before_HW = _values(mask)
    after_HW = (before_HW == 0).view(np.uint8) * np.uint8(255)
    facts = {"foreground_before": _foreground(before_HW), "foreground_after": _foreground(after_HW)}
    return Corrected(MaskPixels(after_HW), facts)


def _colour_table(colours: Mapping[str, int]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Colours, float32 (K, 3), in rising order, and their values (K,), uint8 or uint16."""
    parsed = {tuple(int(part, 16) for part in _parts(colour)): value for colour, value in colours.items()}
    wrong = {value for value in parsed.values() if not 0 <= value <= HIGHEST_VALUE}
    if wrong or not parsed:
        found = f"the values {sorted(wrong)}" if wrong else "no colour"
        raise ValueError(f"the colour map has {found}; it gives each colour a value from 0 to {HIGHEST_VALUE:,}")
    table_K3 = np.array(sorted(parsed), dtype=np.float32)
    values = [parsed[colour] for colour in sorted(parsed)]
    return table_K3, np.array(values, dtype=np.uint8 if max(values) <= 255 else np.uint16)


def _parts(colour: str) -> tuple[str, ...]:
    found = _COLOUR.fullmatch(colour)
    if found is None:
        raise ValueError(f"{colour!r} is no colour; colours are written as #rrggbb")
    return found.groups()


def _greys(mask: MaskPixels) -> NDArray[np.uint8]:
    values_HW = _values(mask)
    if values_HW.min() < 0 or values_HW.max() > 255:
        raise ValueError(
            f"its values go from {values_HW.min()} to {values_HW.max()}; colours are looked up for 0 to 255"
        )
    return np.broadcast_to(values_HW.astype(np.uint8)[..., np.newaxis], (*values_HW.shape, 3))


def _nearest(block_NC: NDArray[np.uint8], table_K3: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Of each pixel the index of the nearest colour, and whether it is another colour than that.

    Squared distances are whole numbers below 2^24, so float32 holds them exactly.
    """
    red_N, green_N, blue_N = np.ascontiguousarray(block_NC.T).astype(np.float32)
    least_N = np.full(len(block_NC), np.inf, np.float32)
    nearest_N = np.zeros(len(block_NC), np.intp)
    for index, (red, green, blue) in enumerate(table_K3):
        distance_N = (red_N - red) ** 2 + (green_N - green) ** 2 + (blue_N - blue) ** 2
        np.copyto(nearest_N, index, where=distance_N < least_N)
        np.minimum(least_N, distance_N, out=least_N)
    return nearest_N, least_N > 0


def _packed(block_NC: NDArray[np.uint8]) -> NDArray[Any]:
    """Colours as numbers: 0xrrggbb."""
    red, green, blue = (block_NC[:, channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _values(mask: MaskPixels) -> NDArray[Any]:
    if mask.values is None:
        raise ValueError(f"it has {mask.colour_count} colours; map them to values first")
    return mask.values


def _count_values(values_HW: NDArray[Any]) -> int:
    if values_HW.dtype.itemsize > 2:
        return len(np.unique(values_HW))
    seen = np.zeros(HIGHEST_VALUE + 1, np.bool_)
    for rows in _blocks(values_HW.shape):
        seen[values_HW[rows]] = True
    return int(np.count_nonzero(seen))


def _foreground(values_HW: NDArray[Any]) -> float:
    return round(np.count_nonzero(values_HW) / values_HW.size, 6)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Whole rows, about `BLOCK_PIXELS` pixels at a time."""
    height, width = shape[:2]
    step = max(1, BLOCK_PIXELS // width)
    return (slice(start, start + step) for start in range(0, height, step))


# --- geometry -----------------------------------------------------------------------------------------------------


def fit(mask: MaskPixels, shape: tuple[int, int], turn: str) -> Corrected | None:
    """Turn a mask, and bring it to a size by nearest neighbour: each pixel takes the value under its centre.

    Args:
        mask: the mask, coloured or not.
        shape: (H, W) wanted.
        turn: one of `TURNS`; 90 and 270 degrees are counterclockwise.

    Returns:
        Facts: `size` and `size_before` as "W×H", and `turn`.

    Raises:
        ValueError: the turn is none.
    """
    before = _pixels(mask)
    if turn == "none" and before.shape[:2] == shape:
        return None
    turned = _turned(before, turn)
    rows, columns = _nearest_lines(shape[0], turned.shape[0]), _nearest_lines(shape[1], turned.shape[1])
    after = turned[rows[:, None], columns]
    facts = {"size": f"{shape[1]}×{shape[0]}", "size_before": f"{before.shape[1]}×{before.shape[0]}", "turn": turn}
    if mask.values is not None:
        return Corrected(MaskPixels(after), facts)
    return Corrected(MaskPixels(None, mask.colours, mask.colour_count, after), facts)


def best_turn(mask: MaskPixels, image_CHW: NDArray[Any]) -> str:
    """Of the turns that swap width and height the one after which the mask says most about the image's intensity.

    That is the largest |AUC - 0.5| of the intensity inside against outside of the mask; the first of equals.
    """
    height, width = image_CHW.shape[1:]
    thin = max(1, math.isqrt(height * width // SAMPLED_PIXELS))
    rows, columns = np.arange(thin // 2, height, thin), np.arange(thin // 2, width, thin)
    grey_HW = to_unit(image_CHW[:, rows[:, None], columns]).mean(axis=0)
    pixels = _pixels(mask)

    def told(turn: str) -> float:
        turned = _turned(pixels, turn)
        from_rows, from_columns = _nearest_lines(height, turned.shape[0]), _nearest_lines(width, turned.shape[1])
        inside = turned[from_rows[rows][:, None], from_columns[columns]] != 0
        return abs(_auc(grey_HW, inside.any(axis=2) if inside.ndim == 3 else inside) - 0.5)

    return max(SIDES_SWAPPED, key=told)


def _auc(grey_HW: NDArray[np.floating[Any]], inside_HW: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of the intensity as a sign of the inside: P(inside > outside) + P(equal) / 2.

    Args:
        grey_HW: in 0..1; told apart in 65,536 steps.
        inside_HW: the foreground. Without foreground or background the answer is 0.5.

    Source:
        J. A. Hanley, B. J. McNeil, Radiology 143(1), 1982.
    """
    levels_HW = np.rint(grey_HW * 65_535).astype(np.uint16)
    inside = np.bincount(levels_HW[inside_HW], minlength=65_536)
    outside = np.bincount(levels_HW[~inside_HW], minlength=65_536)
    pairs = float(inside.sum()) * float(outside.sum())
    darker_outside = outside.cumsum() - outside
    return float(inside @ (darker_outside + outside / 2)) / pairs if pairs else 0.5


def _pixels(mask: MaskPixels) -> NDArray[Any]:
    pixels = mask.rgb if mask.values is None else mask.values
    assert pixels is not None
    return pixels


def _turned(pixels: NDArray[Any], turn: str) -> NDArray[Any]:
    if turn not in TURNS:
        raise ValueError(f"{turn!r} is no turn; there are {', '.join(TURNS)}")
    if turn == "transpose":
        return pixels.swapaxes(0, 1)
    return np.rot90(pixels, {"none": 0, "rotate_90": 1, "rotate_270": 3}[turn])


def _nearest_lines(wanted: int, there: int) -> NDArray[np.intp]:
    """For each wanted row or column the one there under its centre."""
    return (2 * np.arange(wanted) + 1) * there // (2 * wanted)
