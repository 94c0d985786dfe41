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

from octa_backend.data.alignment import Alignment, align
from octa_backend.data.greys import (
    HIGH_SHARE,
    LOW_SHARE,
    Levels,
    counts_of,
    entropy_bits,
    grey_of,
    levels_of,
    thumbnails,
    variance,
)
from octa_backend.data.mask_values import commonest_colours, histogram_of, is_plain, values_and_counts
from octa_backend.data.masks import MaskValues
from octa_backend.data.scans import ImagePixels, MaskPixels
from octa_backend.data.statistics import ImageStatistics, MaskStatistics

THUMBNAIL_SIDE = 32
MASK_THUMBNAIL_SIDE = 16

DEAD_ZONE = 2
"""Laplacians of up to so many grey levels are rounding, and no detail."""

SAMPLED_ROWS = 160
"""Detail and intensity inside and outside are measured on about so many rows, evenly spread."""

_DARK, _BRIGHT = 0.02, 0.98
_UNALIGNED = Alignment(0.0, 0.0, (0, 0))


def measure(images: Sequence[ImagePixels], masks: Sequence[MaskPixels]) -> list[tuple[ImageStatistics, MaskStatistics]]:
    """Measure decoded scans; image and mask of each stand at the same place."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
        alike.setdefault((*_kind(image.values), *_kind(mask.values)), []).append(place)
    found: dict[int, tuple[ImageStatistics, MaskStatistics]] = {}
    for places in alike.values():
        stack, labels = [images[place] for place in places], [masks[place] for place in places]
        levels = [levels_of(image.values) for image in stack]
        grey_NHW = _stacked([grey_of(image.values, known) for image, known in zip(stack, levels, strict=True)])
        of_images, of_masks = _of_images(stack, levels, grey_NHW), _of_masks(labels, grey_NHW)
        found.update(zip(places, zip(of_images, of_masks, strict=True), strict=True))
    return [found[place] for place in range(len(images))]


def measure_image(image_CHW: NDArray[Any], alpha: str) -> ImageStatistics:
    """Measure one decoded image.

    Args:
        image_CHW: uint8, uint16 or float32, C 1 or 3, as `scans.read_image` gives it.
        alpha: see `ImageStatistics`.
    """
    levels = levels_of(image_CHW)
    return _of_images([ImagePixels(image_CHW, alpha)], [levels], grey_of(image_CHW, levels)[np.newaxis])[0]


def measure_mask(mask: MaskPixels, image_CHW: NDArray[Any]) -> MaskStatistics:
    """Measure one decoded mask against its image (as in `measure_image`)."""
    return _of_masks([mask], grey_of(image_CHW)[np.newaxis])[0]


def _kind(pixels: NDArray[Any] | None) -> tuple[Any, ...]:
    return () if pixels is None else (pixels.shape, pixels.dtype)


def _stacked(planes_HW: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return planes_HW[0][np.newaxis] if len(planes_HW) == 1 else np.stack(planes_HW)


# --- images -------------------------------------------------------------------------------------------------------


def _of_images(
    images: Sequence[ImagePixels], levels: Sequence[Levels], grey_NHW: NDArray[np.uint8]
) -> list[ImageStatistics]:
    details_N, small_NSS = _details(grey_NHW), thumbnails(grey_NHW, THUMBNAIL_SIDE)
    return [
        _of_image(image, known, counts_of(grey_HW) if known.greys is None else known.greys, float(detail), small_SS)
        for image, known, grey_HW, detail, small_SS in zip(images, levels, grey_NHW, details_N, small_NSS, strict=True)
    ]


def _of_image(
    image: ImagePixels, levels: Levels, greys: NDArray[np.int64], detail: float, thumbnail: NDArray[np.uint8]
) -> ImageStatistics:
    channels, height, width = image.values.shape
    spread = variance(greys)
    mean, std, dark, bright = _exposure(levels, image.values.dtype == np.uint8)
    return ImageStatistics(
        shape=(height, width),
        channels=channels,
        dtype=str(image.values.dtype),
        alpha=image.alpha,
        digest=_digest(image.values),
        low=float(levels.values[0]),
        high=float(levels.values[-1]),
        robust_low=levels.percentile(LOW_SHARE),
        robust_high=levels.percentile(HIGH_SHARE),
        mean=mean,
        std=std,
        dark_fraction=dark,
        bright_fraction=bright,
        sharpness=detail / spread if spread > 0 else 0.0,
        entropy_bits=entropy_bits(greys),
        thumbnail=thumbnail,
    )


def _exposure(levels: Levels, is_8_bit: bool) -> tuple[float, float, float, float]:
    """Mean, standard deviation, and the dark and bright shares, of the image brought to 0..1."""
    low, high = (0.0, 255.0) if is_8_bit else (float(levels.values[0]), float(levels.values[-1]))
    unit = (levels.values - low) / (high - low) if high > low else np.zeros_like(levels.values)
    share = levels.counts / levels.counts.sum()
    mean = float(share @ unit)
    std = float(share @ (unit - mean) ** 2) ** 0.5
    return mean, std, float(share[unit <= _DARK].sum()), float(share[unit >= _BRIGHT].sum())


def _digest(pixels: NDArray[Any]) -> str:
    """Of shape, kind and content; 128 bits."""
    found = sha256(f"{pixels.shape} {pixels.dtype.str}".encode())
    found.update(np.ascontiguousarray(pixels).data)
    return found.hexdigest()[:32]


def _details(grey_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean squares of the Laplacian beyond the dead zone, (N,)."""
    step, last = _row_step(grey_NHW.shape[1]), grey_NHW.shape[1] - 2
    above_NRW, centre_NRW, below_NRW = (grey_NHW[:, row : last + row : step].astype(np.int16) for row in range(3))
    neighbours_NRW = above_NRW
    neighbours_NRW += below_NRW
    # The rows lie one behind the other: what the outermost columns get from the next row is set to 0 below.
    around, centre = neighbours_NRW.reshape(-1), centre_NRW.reshape(-1)
    around[1:] += centre[:-1]
    around[:-1] += centre[1:]
    beyond_NRW = centre_NRW
    beyond_NRW <<= 2
    beyond_NRW -= neighbours_NRW
    np.abs(beyond_NRW, out=beyond_NRW)
    beyond_NRW -= DEAD_ZONE
    np.maximum(beyond_NRW, 0, out=beyond_NRW)
    beyond_NRW[:, :, (0, -1)] = 0
    flat = beyond_NRW.reshape(len(grey_NHW), -1).astype(np.float32)
    squares_N: NDArray[np.float32] = np.einsum("np,np->n", flat, flat)
    squares_N /= beyond_NRW[0, :, 1:-1].size
    return squares_N


def _row_step(height: int) -> int:
    return max(1, height // SAMPLED_ROWS)


# --- masks --------------------------------------------------------------------------------------------------------


def _of_masks(masks: Sequence[MaskPixels], grey_NHW: NDArray[np.uint8]) -> list[MaskStatistics]:
    """Masks of one kind and size, or coloured ones."""
    values_HW = [mask.values for mask in masks if mask.values is not None]
    if not values_HW:
        return [_of_coloured_mask(mask) for mask in masks]
    values, counts = zip(*[values_and_counts(mask_HW) for mask_HW in values_HW], strict=True)
    inside_NHW = _stacked([_inside(mask_HW, of_mask) for mask_HW, of_mask in zip(values_HW, values, strict=True)])
    fractions = [float(np.count_nonzero(inside_HW) / inside_HW.size) for inside_HW in inside_NHW]
    related = _related(inside_NHW, fractions, grey_NHW)
    return [
        MaskStatistics(
            shape=(mask_HW.shape[0], mask_HW.shape[1]),
            values=values[n],
            colours=(),
            colour_count=0,
            digest=_digest(mask_HW),
            histogram=None if is_plain(values[n]) else histogram_of(mask_HW),
            counts=counts[n],
            foreground_fraction=fractions[n],
            auc=related[n][0],
            shift=related[n][1].shift,
            best_agreement=related[n][1].best,
            edge_agreement=related[n][1].agreement,
            thumbnail=coverage_SS,
        )
        for n, (mask_HW, coverage_SS) in enumerate(zip(values_HW, _coverage(inside_NHW), strict=True))
    ]


def _inside(mask_HW: NDArray[Any], values: MaskValues) -> NDArray[np.bool_]:
    return mask_HW != 0 if is_plain(values) else mask_HW > values.highest // 2


def _related(
    inside_NHW: NDArray[np.bool_], fractions: Sequence[float], grey_NHW: NDArray[np.uint8]
) -> list[tuple[float | None, Alignment]]:
    """AUC and alignment of each mask that can be compared with its image."""
    found: list[tuple[float | None, Alignment]] = [(None, _UNALIGNED)] * len(fractions)
    if inside_NHW.shape != grey_NHW.shape:
        return found
    partial = [n for n, fraction in enumerate(fractions) if 0 < fraction < 1]
    if not partial:
        return found
    if len(partial) < len(fractions):
        grey_NHW, inside_NHW = grey_NHW[partial], inside_NHW[partial]
    aligned = align(grey_NHW, inside_NHW)
    for n, grey_HW, inside_HW, alignment in zip(partial, grey_NHW, inside_NHW, aligned, strict=True):
        found[n] = _auc(grey_HW, inside_HW), alignment
    return found


def _auc(grey_HW: NDArray[np.uint8], inside_HW: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of the grey level as a sign of the inside: P(inside > outside) + P(equal) / 2.

    Source:
        J. A. Hanley, B. J. McNeil, Radiology 143(1), 1982.
    """
    step = _row_step(len(grey_HW))
    for rows in (slice(None, None, step), slice(None)):
        inside = counts_of(grey_HW[rows], inside_HW[rows]).astype(np.float64)
        outside = counts_of(grey_HW[rows]) - inside
        if inside.any() and outside.any():
            break
    return float(inside @ (outside.cumsum() - outside / 2) / (inside.sum() * outside.sum()))


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
    values, _ = values_and_counts(grey_of(mask.rgb.transpose(2, 0, 1)))
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
