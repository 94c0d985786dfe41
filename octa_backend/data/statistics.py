"""What is known of every scan after the one pass over a dataset: the numbers that the dataset's checks judge."""

# Shapes: H x W pixels.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.mask_values import Colours
from octa_backend.data.masks import MaskValues


class Digested(Protocol):
    """Whatever has equal digests for equal contents."""

    @property
    def digest(self) -> str:
        """Of the decoded values and their shape."""


class KnownScan(Protocol):
    """What pictures and volumes have in common: names, and what tells equal ones."""

    @property
    def name(self) -> str:
        """Unique in the dataset."""

    @property
    def patient(self) -> str | None:
        """The patient that the name shows, or None."""

    @property
    def split(self) -> str | None:
        """ "train", "val", "test", or None where the dataset has no official split."""

    @property
    def of_image(self) -> Digested:
        """Numbers of the image."""

    @property
    def of_mask(self) -> Digested:
        """Numbers of the mask."""


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
        sharpness: mean square of the Laplacian beyond `measuring.DEAD_ZONE` grey levels, over the variance of the grey
            image; 0 for a constant image.
        entropy_bits: Shannon entropy of the 256-bin histogram of the grey image.
        thumbnail: uint8 (32, 32), area means of the grey image (see `greys.greys_of`).
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
        standing: (value, pixels that are no edge) of a mask of few values that has a histogram; empty for others. See
            `mask_values.standing_pixels`.
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
    standing: tuple[tuple[int, int], ...] = ()

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
