"""The greys of masks without colours: what they show where their values are no class numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.mask_values import Colours
from octa_backend.data.masks import HIGHEST_CLASS_VALUE, has_void
from octa_backend.data.statistics import MaskStatistics, ScanStatistics

ENDS_OF_SMOOTHED, BRIGHT_OF_SMOOTHED = 0.7, 0.01
"""Masks that were smoothed or saved as lossy JPEG have so many of their pixels within 16 grey levels of 0 and 255, and
so many above 191. Thin vessels after a Gaussian of 1 pixel have 0.77, after JPEG 0.98; images that stand in for masks
have 0.04 to 0.63."""

WHITE = 255


def pooled_histogram(scans: Sequence[ScanStatistics]) -> NDArray[np.int64]:
    """Pixels per value over the masks of many values, (256,)."""
    pooled = np.zeros(256, np.int64)
    for scan in scans:
        if scan.of_mask.histogram is not None:
            pooled += scan.of_mask.histogram
    return pooled


def is_smoothed(histogram: NDArray[np.int64]) -> bool:
    """Whether values gather at 0 and 255: two values once, before smoothing or lossy compression."""
    total = int(histogram.sum())
    ends = int(histogram[:16].sum() + histogram[240:].sum())
    dark, bright = int(histogram[:16].sum()), int(histogram[192:].sum())
    return dark > 0 and bright >= BRIGHT_OF_SMOOTHED * total and ends >= ENDS_OF_SMOOTHED * total


def greys_shown(mask: MaskStatistics) -> Colours:
    """The greys that a mask without colours shows, with their pixels, the darkest first.

    Black and white of a smoothed one of many greys; nothing where the values are class numbers or deeper than 8 bit,
    or make up a picture.
    """
    values = mask.values
    if mask.colours or not HIGHEST_CLASS_VALUE < values.highest <= WHITE or values.lowest[0] < 0:
        return ()
    if mask.counts:
        return () if has_void(values.lowest) else tuple(((grey, grey, grey), area) for grey, area in mask.counts)
    if mask.histogram is None or not is_smoothed(mask.histogram):
        return ()
    bright = int(mask.histogram[WHITE // 2 + 1 :].sum())
    return ((0, 0, 0), int(mask.histogram.sum()) - bright), ((WHITE, WHITE, WHITE), bright)
