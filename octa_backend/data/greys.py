"""Images as 8-bit greys, and smaller copies of them: what the measurements of `measuring` share."""

# Shapes: N images or planes of equal size, C channels, H x W pixels, L levels.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    """The values that images of equal kind may have, rising, and how many pixels (of all channels) have each.

    Attributes:
        values: (N, L); of real numbers the middles of `FLOAT_LEVELS` bins, the outermost ones the extremes themselves;
            else 0, 1, …, the same for all images, (1, L).
        counts: (N, L); 0 for values that an image does not have.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    def percentile(self, share: float) -> NDArray[np.float64]:
        """The least value of each image, (N,), that `share` of its pixels do not exceed; its extremes for 0 and 1."""
        cumulated_NL = self.counts.cumsum(axis=1)
        wanted_N = np.maximum(share * cumulated_NL[:, -1], 1)
        places_N = (cumulated_NL < wanted_N[:, None]).sum(axis=1)
        values_NL = np.broadcast_to(self.values, self.counts.shape)
        found_N: NDArray[np.float64] = values_NL[np.arange(len(places_N)), places_N]
        return found_N

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of each image's pixels, (N, L)."""
        shares_NL: NDArray[np.float64] = self.counts / self.counts.sum(axis=1, keepdims=True)
        return shares_NL


def levels_of(images_NCHW: NDArray[Any]) -> Levels:
    """Count the values of images.

    Args:
        images_NCHW: uint8, uint16 or finite float32.
    """
    if images_NCHW.dtype.kind == "f":
        pairs = [_levels_of_floats(image_CHW) for image_CHW in images_NCHW]
        return Levels(_padded([values for values, _ in pairs], "edge"), _padded([counts for _, counts in pairs]))
    flat = images_NCHW.reshape(len(images_NCHW), -1, images_NCHW.shape[-1])
    counts_NL = _padded([counts_of(plane) for plane in flat])
    return Levels(np.arange(counts_NL.shape[1], dtype=np.float64)[None], counts_NL)


def _padded(rows: Sequence[NDArray[Any]], mode: Literal["constant", "edge"] = "constant") -> NDArray[Any]:
    longest = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, longest - len(row)), mode) if len(row) < longest else row for row in rows])


def counts_of(plane_HW: NDArray[Any]) -> NDArray[np.int64]:
    """Pixels per value of a uint8 or uint16 plane, (256,) or longer."""
    if plane_HW.dtype == np.uint8:  # Pillow counts bytes twice as fast as NumPy
        return np.array(Image.fromarray(plane_HW).histogram(), dtype=np.int64)
    return np.bincount(plane_HW.ravel(), minlength=256)


def _levels_of_floats(image_CHW: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Bins over the range that holds nearly all values, so that one hot pixel does not swallow the others."""
    low, high = float(image_CHW.min()), float(image_CHW.max())
    if high <= low:
        return np.array([low]), np.array([image_CHW.size])
    inner_low, inner_high = (float(x) for x in np.percentile(_thinned(image_CHW), (0.1, 99.9)))
    edges = np.unique(np.array([low, *np.linspace(inner_low, inner_high, FLOAT_LEVELS - 1), high]))
    counts, _ = np.histogram(image_CHW, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    middles[0], middles[-1] = low, high
    return middles, counts


def _thinned(image_CHW: NDArray[Any], most: int = 2**18) -> NDArray[Any]:
    flat = image_CHW.ravel()
    return flat[:: max(1, flat.size // most)]


def greys_of(images_NCHW: NDArray[Any], levels: Levels | None = None) -> NDArray[np.uint8]:
    """The images as 8-bit greys, (N, H, W).

    8-bit images keep their values, coloured ones become luma; deeper ones are stretched from their robust range.

    Args:
        images_NCHW: uint8, uint16 or finite float32, C 1 or 3.
        levels: of the images, where they are known already.
    """
    if images_NCHW.dtype == np.uint8:
        return _luma(images_NCHW)
    levels = levels or levels_of(images_NCHW)
    low_N, high_N = levels.percentile(LOW_SHARE), levels.percentile(HIGH_SHARE)
    scale_N = np.divide(255, high_N - low_N, out=np.zeros_like(low_N), where=high_N > low_N)
    stretched_NHW = images_NCHW.mean(axis=1, dtype=np.float32)
    stretched_NHW -= low_N.astype(np.float32)[:, None, None]
    stretched_NHW *= scale_N.astype(np.float32)[:, None, None]
    greys_NHW: NDArray[np.uint8] = np.clip(stretched_NHW, 0, 255).astype(np.uint8)
    return greys_NHW


def _luma(images_NCHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images_NCHW.shape[1] == 1:
        only_NHW: NDArray[np.uint8] = images_NCHW[:, 0]
        return only_NHW
    weighted_NHW: NDArray[np.uint16] = images_NCHW[:, 0] * np.uint16(_LUMA[0])
    for channel in (1, 2):
        weighted_NHW += images_NCHW[:, channel] * np.uint16(_LUMA[channel])
    weighted_NHW >>= 8
    return weighted_NHW.astype(np.uint8)


def box_reduced(planes_NHW: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Means of `factor` x `factor` pixels of uint8 or bool planes; what fills no whole box is left out."""
    height, width = (side // factor * factor for side in planes_NHW.shape[1:])
    largest = (1 if planes_NHW.dtype == bool else 255) * factor * factor
    rows_NhW: NDArray[Any] = planes_NHW[:, :height:factor].astype(np.min_scalar_type(largest))
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


def variances(shares_NL: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of grey levels with these shares of the pixels, (N,)."""
    levels_L = np.arange(shares_NL.shape[1])
    deviations_NL = levels_L - (shares_NL @ levels_L)[:, None]
    found_N: NDArray[np.float64] = np.einsum("nl,nl,nl->n", shares_NL, deviations_NL, deviations_NL)
    return found_N


def entropies_bits(shares_NL: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shannon entropy of grey levels with these shares of the pixels, in bits, (N,)."""
    logarithms_NL = np.log2(shares_NL, out=np.zeros_like(shares_NL), where=shares_NL > 0)
    found_N: NDArray[np.float64] = np.maximum(0.0, -np.einsum("nl,nl->n", shares_NL, logarithms_NL))
    return found_N
