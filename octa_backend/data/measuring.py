"""Measuring decoded scans. Those of equal size are worked on together, stacked.

A call on a stack works long without the interpreter's lock, so that other threads decode and measure meanwhile; calls
on single scans would spend that time handing the lock over.
"""

# Shapes: N scans of equal size, C channels, H x W pixels; R sampled rows.

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.alignment import UNALIGNED, Alignment, align
from octa_backend.data.greys import (
    HIGH_SHARE,
    LOW_SHARE,
    Levels,
    entropies_bits,
    greys_of,
    levels_of,
    thumbnails,
    variances,
)
from octa_backend.data.mask_values import commonest_colours, histogram_of, is_plain, standing_pixels, values_and_counts
from octa_backend.data.masks import MaskValues, has_void
from octa_backend.data.scans import ImagePixels, MaskPixels
from octa_backend.data.statistics import ImageStatistics, MaskStatistics

THUMBNAIL_SIDE = 32
MASK_THUMBNAIL_SIDE = 16

DEAD_ZONE = 2
"""Laplacians of up to so many grey levels are rounding, and no detail."""

SAMPLED_ROWS = 160
"""Detail, and intensity inside and outside, are measured on so many evenly spread rows, up to twice as many."""

_DARK, _BRIGHT = 0.02, 0.98


def measure(images: Sequence[ImagePixels], masks: Sequence[MaskPixels]) -> list[tuple[ImageStatistics, MaskStatistics]]:
    """Measure decoded scans; image and mask of each stand at the same place."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
        alike.setdefault((*_kind(image.values), *_kind(mask.values)), []).append(place)
    found: dict[int, tuple[ImageStatistics, MaskStatistics]] = {}
    for places in alike.values():
        stack, labels = [images[place] for place in places], [masks[place] for place in places]
        of_images, grey_NHW = _of_images(stack)
        found.update(zip(places, zip(of_images, _of_masks(labels, grey_NHW), strict=True), strict=True))
    return [found[place] for place in range(len(images))]


def measure_image(image_CHW: NDArray[Any], alpha: str) -> ImageStatistics:
    """Measure one decoded image.

    Args:
        image_CHW: uint8, uint16 or float32, C 1 or 3, as `scans.read_image` gives it.
        alpha: see `ImageStatistics`.
    """
    return _of_images([ImagePixels(image_CHW, alpha)])[0][0]


def measure_mask(mask: MaskPixels, image_CHW: NDArray[Any]) -> MaskStatistics:
    """Measure one decoded mask against its image (as in `measure_image`)."""
    return _of_masks([mask], greys_of(image_CHW[np.newaxis]))[0]


def _kind(pixels: NDArray[Any] | None) -> tuple[Any, ...]:
    return () if pixels is None else (pixels.shape, pixels.dtype)


def _stacked(pixels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)


# --- images -------------------------------------------------------------------------------------------------------


def _of_images(images: Sequence[ImagePixels]) -> tuple[list[ImageStatistics], NDArray[np.uint8]]:
    """Of images of one kind and size; and the images as greys, (N, H, W)."""
    pixels_NCHW = _stacked([image.values for image in images])
    _, channels, height, width = pixels_NCHW.shape
    levels = levels_of(pixels_NCHW)
    grey_NHW = greys_of(pixels_NCHW, levels)
    are_greys = pixels_NCHW.dtype == np.uint8 and channels == 1
    shares_NL = levels.shares if are_greys else levels_of(grey_NHW[:, np.newaxis]).shares
    numbers = _exposure(levels, pixels_NCHW.dtype == np.uint8) | _contents(grey_NHW, shares_NL)
    columns = [number_N.tolist() for number_N in numbers.values()]
    of_images = [
        ImageStatistics(
            shape=(height, width),
            channels=channels,
            dtype=str(pixels_NCHW.dtype),
            alpha=image.alpha,
            digest=_digest(image.values),
            thumbnail=small_SS,
            **dict(zip(numbers, row, strict=True)),
        )
        for image, small_SS, *row in zip(images, thumbnails(grey_NHW, THUMBNAIL_SIDE), *columns, strict=True)
    ]
    return of_images, grey_NHW


def _exposure(levels: Levels, is_8_bit: bool) -> dict[str, NDArray[np.float64]]:
    """What the levels tell; mean, deviation, dark and bright share of the images brought to 0..1."""
    low_N, high_N = levels.percentile(0), levels.percentile(1)
    black_N1, white_N1 = (0.0, 255.0) if is_8_bit else (low_N[:, None], high_N[:, None])
    range_N1 = np.subtract(white_N1, black_N1)
    unit_NL = (levels.values - black_N1) / np.where(range_N1 > 0, range_N1, np.inf)
    shares_NL = levels.shares
    mean_N = (shares_NL * unit_NL).sum(axis=1)
    return {
        "low": low_N,
        "high": high_N,
        "robust_low": levels.percentile(LOW_SHARE),
        "robust_high": levels.percentile(HIGH_SHARE),
        "mean": mean_N,
        "std": np.sqrt((shares_NL * (unit_NL - mean_N[:, None]) ** 2).sum(axis=1)),
        "dark_fraction": (shares_NL * (unit_NL <= _DARK)).sum(axis=1),
        "bright_fraction": (shares_NL * (unit_NL >= _BRIGHT)).sum(axis=1),
    }


def _contents(grey_NHW: NDArray[np.uint8], shares_NL: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What the greys tell, and the shares of their levels."""
    spread_N = variances(shares_NL)
    sharpness_N = np.divide(_details(grey_NHW), spread_N, out=np.zeros_like(spread_N), where=spread_N > 0)
    return {"sharpness": sharpness_N, "entropy_bits": entropies_bits(shares_NL)}


def _digest(pixels: NDArray[Any]) -> str:
    """Of shape, kind and content; 128 bits."""
    found = sha256(f"{pixels.shape} {pixels.dtype.str}".encode())
    found.update(np.ascontiguousarray(pixels).data)
    return found.hexdigest()[:32]


def _details(grey_NHW: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean squares of the Laplacian beyond the dead zone, (N,)."""
    step, last = _row_step(grey_NHW.shape[1]), grey_NHW.shape[1] - 2
    above_NRW, centre_NRW, below_NRW = (grey_NHW[:, row : last + row : step] for row in range(3))
    neighbours_NRW, beyond_NRW = np.add(above_NRW, below_NRW, dtype=np.int16), centre_NRW.astype(np.int16)
    # The rows lie one behind the other: what the outermost columns get from the next row is set to 0 below.
    around, centre = neighbours_NRW.reshape(-1), beyond_NRW.reshape(-1)
    around[1:] += centre[:-1]
    around[:-1] += centre[1:]
    beyond_NRW <<= 2
    beyond_NRW -= neighbours_NRW
    np.abs(beyond_NRW, out=beyond_NRW)
    beyond_NRW -= DEAD_ZONE
    np.maximum(beyond_NRW, 0, out=beyond_NRW)
    beyond_NRW[:, :, (0, -1)] = 0
    flat_NP = beyond_NRW.reshape(len(grey_NHW), -1)
    squares_N: NDArray[np.float32] = np.einsum("np,np->n", flat_NP, flat_NP, dtype=np.float32)
    means_N: NDArray[np.float64] = squares_N.astype(np.float64) / beyond_NRW[0, :, 1:-1].size
    return means_N


def _row_step(height: int) -> int:
    return max(1, height // SAMPLED_ROWS)


# --- masks --------------------------------------------------------------------------------------------------------


def _of_masks(masks: Sequence[MaskPixels], grey_NHW: NDArray[np.uint8]) -> list[MaskStatistics]:
    """Of masks of one kind and size, or of coloured ones."""
    pixels = [mask.values for mask in masks if mask.values is not None]
    if not pixels:
        return [_of_coloured_mask(mask) for mask in masks]
    masks_NHW = _stacked(pixels)
    values, areas = zip(*values_and_counts(masks_NHW), strict=True)
    inside_NHW = _inside(masks_NHW, values)
    fractions = [np.count_nonzero(inside_HW) / inside_HW.size for inside_HW in inside_NHW]
    related, coverage_NSS = _related(inside_NHW, fractions, grey_NHW), _coverage(inside_NHW)
    return [
        MaskStatistics(
            shape=(masks_NHW.shape[1], masks_NHW.shape[2]),
            values=values[n],
            colours=(),
            colour_count=0,
            digest=_digest(mask_HW),
            histogram=None if is_plain(values[n]) else histogram_of(mask_HW),
            counts=areas[n],
            foreground_fraction=fractions[n],
            auc=related[n][0],
            shift=related[n][1].shift,
            best_agreement=related[n][1].best,
            edge_agreement=related[n][1].agreement,
            thumbnail=coverage_NSS[n],
            standing=() if is_plain(values[n]) else standing_pixels(mask_HW, areas[n]),
        )
        for n, mask_HW in enumerate(pixels)
    ]


def _inside(masks_NHW: NDArray[Any], values: Sequence[MaskValues]) -> NDArray[np.bool_]:
    inside_NHW: NDArray[np.bool_] = masks_NHW != 0
    for inside_HW, mask_HW, of_mask in zip(inside_NHW, masks_NHW, values, strict=True):
        if not is_plain(of_mask) and not has_void(of_mask.lowest):
            np.greater(mask_HW, of_mask.highest // 2, out=inside_HW)
    return inside_NHW


def _related(
    inside_NHW: NDArray[np.bool_], fractions: Sequence[float], grey_NHW: NDArray[np.uint8]
) -> list[tuple[float | None, Alignment]]:
    """AUC and alignment of each mask that can be compared with its image."""
    found: list[tuple[float | None, Alignment]] = [(None, UNALIGNED)] * len(fractions)
    partial = [n for n, fraction in enumerate(fractions) if 0 < fraction < 1]
    if not partial or inside_NHW.shape != grey_NHW.shape:
        return found
    if len(partial) < len(fractions):
        grey_NHW, inside_NHW = grey_NHW[partial], inside_NHW[partial]
    aligned = align(grey_NHW, inside_NHW)
    for n, auc, alignment in zip(partial, _aucs(grey_NHW, inside_NHW), aligned, strict=True):
        found[n] = auc, alignment
    return found


def _aucs(grey_NHW: NDArray[np.uint8], inside_NHW: NDArray[np.bool_]) -> list[float]:
    """Areas under the ROC curves, on the sampled rows; on all where these show nothing inside or nothing outside."""
    step = _row_step(grey_NHW.shape[1])
    sampled = _bins(grey_NHW[:, ::step], inside_NHW[:, ::step])
    found = [_auc(bins_RW) for bins_RW in sampled]
    return [
        _auc(_bins(grey_HW, inside_HW)) if np.isnan(auc) else auc
        for auc, grey_HW, inside_HW in zip(found, grey_NHW, inside_NHW, strict=True)
    ]


def _bins(grey: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """The grey level outside, 256 more inside."""
    bins = inside.astype(np.uint16)
    bins <<= 8
    bins |= grey
    return bins


def _auc(bins_RW: NDArray[np.uint16]) -> float:
    """Area under the ROC curve of the grey level as a sign of the inside: P(inside > outside) + P(equal) / 2.

    Returns:
        NaN where nothing is inside, or nothing outside.

    Source:
        J. A. Hanley, B. J. McNeil, Radiology 143(1), 1982.
    """
    outside, inside = np.bincount(bins_RW.ravel(), minlength=512).reshape(2, 256).astype(np.float64)
    pairs = inside.sum() * outside.sum()
    return float(inside @ (outside.cumsum() - outside / 2) / pairs) if pairs else np.nan


def _coverage(inside_NHW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return thumbnails(inside_NHW.view(np.uint8) * np.uint8(255), MASK_THUMBNAIL_SIDE)


def _of_coloured_mask(mask: MaskPixels) -> MaskStatistics:
    assert mask.rgb is not None
    packed_HW = mask.rgb[..., 0].astype(np.uint32)
    for channel in (1, 2):
        packed_HW <<= 8
        packed_HW |= mask.rgb[..., channel]
    packed, areas = np.unique(packed_HW, return_counts=True)
    inside_HW: NDArray[np.bool_] = packed_HW != 0
    ((values, _),) = values_and_counts(greys_of(mask.rgb.transpose(2, 0, 1)[np.newaxis]))
    return MaskStatistics(
        shape=(inside_HW.shape[0], inside_HW.shape[1]),
        values=values,
        colours=commonest_colours(packed, areas),
        colour_count=len(packed),
        digest=_digest(mask.rgb),
        histogram=None,
        counts=(),
        foreground_fraction=float(np.count_nonzero(inside_HW) / inside_HW.size),
        auc=None,
        shift=(0, 0),
        best_agreement=0.0,
        edge_agreement=0.0,
        thumbnail=_coverage(inside_HW[np.newaxis])[0],
    )
