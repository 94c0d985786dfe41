"""What is measured of every scan in the one pass over a dataset: the numbers that the dataset's checks judge."""

# Shapes: C channels, H x W pixels.

from __future__ import annotations

from dataclasses import dataclass
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
    thumbnail,
    variance,
)
from octa_backend.data.mask_values import Colours, commonest_colours, histogram_of, is_plain, values_and_counts
from octa_backend.data.masks import MaskValues
from octa_backend.data.scans import MaskPixels

THUMBNAIL_SIDE = 32
MASK_THUMBNAIL_SIDE = 16

DEAD_ZONE = 2
"""Laplacians of up to so many grey levels are rounding, and no detail."""

SAMPLED_ROWS = 160
"""Detail and intensity inside and outside are measured on about so many rows, evenly spread."""

_DARK, _BRIGHT = 0.02, 0.98


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Numbers of one image.

    Attributes:
        shape: (H, W) in pixels.
        channels: 1 or 3.
        dtype: "uint8", "uint16" or "float32", as decoded.
        alpha: "none", "constant" (carries nothing) or "varies".
        digest: of the decoded pixels and their shape; equal for equal images, however they were compressed.
        low, high: least and greatest value, as decoded.
        robust_low, robust_high: 0.5 and 99.5 percentiles, as decoded.
        mean, std: over all channels, of the image brought to 0..1 (see `normalise.to_unit`).
        dark_fraction, bright_fraction: share of values at most 2 %, at least 98 % of the full range.
        sharpness: mean square of the Laplacian beyond `DEAD_ZONE` grey levels, over the variance of the grey image;
            0 for a constant image.
        entropy_bits: Shannon entropy of the 256-bin histogram of the grey image.
        thumbnail: uint8 (32, 32), area means of the grey image (see `greys.grey_of`).
    """

    shape: tuple[int, int]
    channels: int
    dtype: str
    alpha: str
    digest: str
    low: float
    high: float
    robust_low: float
    robust_high: float
    mean: float
    std: float
    dark_fraction: float
    bright_fraction: float
    sharpness: float
    entropy_bits: float
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """Numbers of one mask, and of how it lies on its image.

    Foreground is what is not 0; of a mask of many values (see `histogram`) what lies above half of its highest value;
    of a coloured mask what is not black.

    Attributes:
        shape: (H, W) in pixels; not always the image's.
        values: the different values; of a coloured mask those of its grey picture.
        colours: (red, green, blue) -> pixels, of a coloured mask, the commonest first; empty for others. See
            `mask_values.commonest_colours` for many.
        colour_count: how many colours it has in all.
        digest: of the pixels and their shape.
        histogram: pixels per value 0..255 of a mask of many values (16-bit ones: their high byte); None for others.
            Many values are those that are neither 0 and one other nor class numbers.
        counts: (value, pixels) of a mask of at most `masks.MAX_CLASSES` values, in rising order; empty for others.
        foreground_fraction: share of pixels that are foreground.
        auc: how well the image's intensity alone tells foreground from background: the area under the ROC curve, 0..1;
            0.5 says nothing, below 0.5 the foreground is the darker part. None where it was not measured: for an empty,
            full or coloured mask, or where sizes differ. The three numbers below are 0 then.
        shift: (rows, columns), in pixels, by which the mask would have to move to agree best with the image.
        best_agreement: agreement after the shift (see `alignment`).
        edge_agreement: agreement as it is; of the order of 1 for a mask that has nothing to do with the image's edges.
        thumbnail: uint8 (16, 16), area means of the foreground, 255 where all of a cell is foreground.
    """

    shape: tuple[int, int]
    values: MaskValues
    colours: Colours
    colour_count: int
    digest: str
    histogram: NDArray[np.int64] | None
    counts: tuple[tuple[int, int], ...]
    foreground_fraction: float
    auc: float | None
    shift: tuple[int, int]
    best_agreement: float
    edge_agreement: float
    thumbnail: NDArray[np.uint8]

    @property
    def shift_gain(self) -> float:
        """Agreement after the shift over agreement as it is, minus 1; what is below chance counts as chance."""
        return max(0.0, self.best_agreement / max(1.0, self.edge_agreement) - 1)


@dataclass(frozen=True, slots=True)
class ScanStatistics:
    """One scan: what its names say, and the numbers of its two files.

    Attributes:
        name: unique in the dataset.
        image, mask: paths of the files.
        patient: the patient that the name shows, or None.
        split: "train", "val", "test", or None where the dataset has no official split.
    """

    name: str
    image: str
    mask: str
    patient: str | None
    split: str | None
    of_image: ImageStatistics
    of_mask: MaskStatistics


# --- images -------------------------------------------------------------------------------------------------------


def measure_image(image_CHW: NDArray[Any], alpha: str) -> ImageStatistics:
    """Measure one decoded image.

    Args:
        image_CHW: uint8, uint16 or float32, C 1 or 3, as `scans.read_image` gives it.
        alpha: see `ImageStatistics`.
    """
    levels = levels_of(image_CHW)
    grey_HW = grey_of(image_CHW, levels)
    greys = counts_of(grey_HW) if levels.by_value is None or len(image_CHW) > 1 else levels.by_value
    spread = variance(greys)
    mean, std, dark, bright = _exposure(levels, image_CHW.dtype == np.uint8)
    return ImageStatistics(
        shape=(image_CHW.shape[1], image_CHW.shape[2]),
        channels=len(image_CHW),
        dtype=str(image_CHW.dtype),
        alpha=alpha,
        digest=_digest(image_CHW),
        low=float(levels.values[0]),
        high=float(levels.values[-1]),
        robust_low=levels.percentile(LOW_SHARE),
        robust_high=levels.percentile(HIGH_SHARE),
        mean=mean,
        std=std,
        dark_fraction=dark,
        bright_fraction=bright,
        sharpness=_detail(grey_HW) / spread if spread > 0 else 0.0,
        entropy_bits=entropy_bits(greys),
        thumbnail=thumbnail(grey_HW, THUMBNAIL_SIDE),
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


def _detail(grey_HW: NDArray[np.uint8]) -> float:
    """Mean square of the Laplacian beyond the dead zone."""
    step = _row_step(grey_HW)
    above_HW, centre_HW, below_HW = (grey_HW[row : grey_HW.shape[0] - 2 + row : step].astype(np.int16) for row in range(3))
    laplacian = 4 * centre_HW[:, 1:-1]
    for neighbours in (above_HW[:, 1:-1], below_HW[:, 1:-1], centre_HW[:, :-2], centre_HW[:, 2:]):
        laplacian -= neighbours
    beyond = np.maximum(np.abs(laplacian) - DEAD_ZONE, 0).astype(np.float32).ravel()
    return float(beyond @ beyond) / beyond.size


def _row_step(plane_HW: NDArray[Any]) -> int:
    return max(1, plane_HW.shape[0] // SAMPLED_ROWS)


# --- masks --------------------------------------------------------------------------------------------------------


def measure_mask(mask: MaskPixels, image_CHW: NDArray[Any]) -> MaskStatistics:
    """Measure one decoded mask against its image (as in `measure_image`)."""
    if mask.values is None:
        return _measure_coloured(mask)
    values, counts = values_and_counts(mask.values)
    inside_HW = mask.values != 0 if is_plain(values) else mask.values > values.highest // 2
    fraction = float(np.count_nonzero(inside_HW) / inside_HW.size)
    auc, aligned = None, Alignment(0.0, 0.0, (0, 0))
    if 0 < fraction < 1 and inside_HW.shape == image_CHW.shape[1:]:
        grey_HW = grey_of(image_CHW)
        auc, aligned = _auc(grey_HW, inside_HW), align(grey_HW, inside_HW)
    return MaskStatistics(
        shape=(mask.values.shape[0], mask.values.shape[1]),
        values=values,
        colours=(),
        colour_count=0,
        digest=_digest(mask.values),
        histogram=None if is_plain(values) else histogram_of(mask.values),
        counts=counts,
        foreground_fraction=fraction,
        auc=auc,
        shift=aligned.shift,
        best_agreement=aligned.best,
        edge_agreement=aligned.agreement,
        thumbnail=_coverage(inside_HW),
    )


def _auc(grey_HW: NDArray[np.uint8], inside_HW: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of the grey level as a sign of the inside: P(inside > outside) + P(equal) / 2.

    Source:
        J. A. Hanley, B. J. McNeil, Radiology 143(1), 1982.
    """
    step = _row_step(grey_HW)
    for rows in (slice(None, None, step), slice(None)):
        inside = counts_of(grey_HW[rows], inside_HW[rows]).astype(np.float64)
        outside = counts_of(grey_HW[rows]) - inside
        if inside.any() and outside.any():
            break
    return float(inside @ (outside.cumsum() - outside / 2) / (inside.sum() * outside.sum()))


def _coverage(inside_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return thumbnail(inside_HW.view(np.uint8) * np.uint8(255), MASK_THUMBNAIL_SIDE)


def _measure_coloured(mask: MaskPixels) -> MaskStatistics:
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
        thumbnail=_coverage(inside_HW),
    )
