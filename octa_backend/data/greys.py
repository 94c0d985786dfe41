"""Images as 8-bit greys, and smaller copies of them: what the measurements of `measuring` share."""

# Shapes: N planes of equal size, C channels, H x W pixels.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LOW_SHARE, HIGH_SHARE = 0.005, 0.995
"""The robust range of an image: its 0.5 and 99.5 percentiles. A hot pixel or a burnt-in letter lies outside of it."""

FLOAT_LEVELS = 4096
"""Real numbers are told apart in so many steps of their range."""

_LUMA = (77, 150, 29)
"""Red, green and blue in a grey, in 256ths (ITU-R BT.601)."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The different values of an image, rising, and how many pixels (of all channels) have each.

    Of real numbers the values are the middles of `FLOAT_LEVELS` bins, the outermost ones the extremes themselves.

    Attributes:
        greys: pixels per grey level 0..255, of 8-bit images of one channel; None for others.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    greys: NDArray[np.int64] | None = None

    def percentile(self, share: float) -> float:
        """The least value that `share` of the pixels do not exceed."""
        cumulated = self.counts.cumsum()
        return float(self.values[int(np.searchsorted(cumulated, share * cumulated[-1]))])


def levels_of(image_CHW: NDArray[Any]) -> Levels:
    """Count the values of an image.

    Args:
        image_CHW: uint8, uint16 or finite float32.
    """
    if image_CHW.dtype.kind == "f":
        return _levels_of_floats(image_CHW)
    counts = counts_of(image_CHW.reshape(-1, image_CHW.shape[-1]))
    there = np.flatnonzero(counts)
    is_grey = image_CHW.dtype == np.uint8 and len(image_CHW) == 1
    return Levels(there.astype(np.float64), counts[there], counts if is_grey else None)


def counts_of(plane_HW: NDArray[Any], inside_HW: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Pixels per value, (256,) or longer.

    Args:
        plane_HW: uint8 or uint16.
        inside_HW: the pixels that count; all where it is left out.
    """
    if inside_HW is not None:
        plane_HW = np.compress(inside_HW.ravel(), plane_HW.ravel())
    elif plane_HW.dtype == np.uint8:  # Pillow counts bytes twice as fast as NumPy
        return np.array(Image.fromarray(plane_HW).histogram(), dtype=np.int64)
    return np.bincount(plane_HW.ravel(), minlength=256)


def _levels_of_floats(image_CHW: NDArray[Any]) -> Levels:
    """Bins over the range that holds nearly all values, so that one hot pixel does not swallow the others."""
    low, high = float(image_CHW.min()), float(image_CHW.max())
    if high <= low:
        return Levels(np.array([low]), np.array([image_CHW.size]))
    inner_low, inner_high = (float(x) for x in np.percentile(_thinned(image_CHW), (0.1, 99.9)))
    edges = np.unique(np.array([low, *np.linspace(inner_low, inner_high, FLOAT_LEVELS - 1), high]))
    counts, _ = np.histogram(image_CHW, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    middles[0], middles[-1] = low, high
    return Levels(middles, counts)


def _thinned(image_CHW: NDArray[Any], most: int = 2**18) -> NDArray[Any]:
    flat = image_CHW.ravel()
    return flat[:: max(1, flat.size // most)]


def grey_of(image_CHW: NDArray[Any], levels: Levels | None = None) -> NDArray[np.uint8]:
    """The image as 8-bit grey, (H, W).

    8-bit images keep their values, coloured ones become luma; deeper ones are stretched from their robust range.

    Args:
        image_CHW: uint8, uint16 or finite float32, C 1 or 3.
        levels: of the image, where they are known already.
    """
    if image_CHW.dtype == np.uint8:
        return _luma(image_CHW)
    levels = levels or levels_of(image_CHW)
    low, high = levels.percentile(LOW_SHARE), levels.percentile(HIGH_SHARE)
    scale = 255 / (high - low) if high > low else 0.0
    stretched_HW = (image_CHW.mean(axis=0, dtype=np.float32) - np.float32(low)) * np.float32(scale)
    grey_HW: NDArray[np.uint8] = np.clip(stretched_HW, 0, 255).astype(np.uint8)
    return grey_HW


def _luma(image_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(image_CHW) == 1:
        only_HW: NDArray[np.uint8] = image_CHW[0]
        return only_HW
    weighted_HW: NDArray[np.uint16] = image_CHW[0] * np.uint16(_LUMA[0])
    for channel in (1, 2):
        weighted_HW += image_CHW[channel] * np.uint16(_LUMA[channel])
    weighted_HW >>= 8
    return weighted_HW.astype(np.uint8)


def box_reduced(planes_NHW: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means of `factor` x `factor` pixels of uint8 or bool planes; what fills no whole box is left out."""
    height, width = (side // factor * factor for side in planes_NHW.shape[1:])
    kind = np.uint16 if factor <= 256 else np.uint32
    rows_NhW: NDArray[Any] = planes_NHW[:, :height:factor].astype(kind)
    for row in range(1, factor):
        rows_NhW += planes_NHW[:, row:height:factor]
    sums_Nhw: NDArray[np.float32] = rows_NhW[..., :width:factor].astype(np.float32)
    for column in range(1, factor):
        sums_Nhw += rows_NhW[..., column:width:factor]
    sums_Nhw /= factor * factor
    return sums_Nhw


def thumbnails(planes_NHW: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Area means of `side` x `side` cells of equal size, uint8 (N, side, side)."""
    count, height, width = planes_NHW.shape
    if height % side == 0 and width % side == 0:  # then the planes, one below the other, are one tall picture
        tall = Image.fromarray(planes_NHW.reshape(count * height, width))
        return np.asarray(tall.reduce((width // side, height // side))).reshape(count, side, side)
    pictures = (Image.fromarray(plane_HW) for plane_HW in planes_NHW)
    return np.stack([np.asarray(picture.resize((side, side), Image.Resampling.BOX)) for picture in pictures])


def variance(counts: NDArray[np.int64]) -> float:
    """Of the grey levels that a histogram counts."""
    share, level = counts / counts.sum(), np.arange(len(counts))
    return float(share @ (level - share @ level) ** 2)


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Shannon entropy of the grey levels that a histogram counts, in bits."""
    share = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(share @ np.log2(share))))
