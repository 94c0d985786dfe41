"""Where masks of many values are cut into background and foreground: one threshold for a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.statistics import ScanStatistics
from octa_backend.diagnosis.mask_greys import is_smoothed, pooled_histogram

MIDDLE = 127
"""Values above it were 255 before they were smoothed; the threshold wherever values gather at 0 and 255."""

_USUAL_FOREGROUND = (1, 255, 65535)


def thresholds(scans: Sequence[ScanStatistics]) -> dict[str, int]:
    """Threshold for each mask that is to be cut, in its own values; values above it are foreground.

    8-bit masks of many values share one threshold, deeper ones another. Masks of 0 and one other value that is not 1,
    255 or 65535 are cut above 0. Masks that are 0/1, 0/255 or 0/65535 already, or empty, are not among them.
    """
    found = {scan.name: 0 for scan in scans if scan.of_mask.histogram is None and not _is_usual(scan)}
    for is_deep in (False, True):
        many = [scan for scan in scans if scan.of_mask.histogram is not None and _is_deep(scan) == is_deep]
        if many:
            cut = threshold_of(pooled_histogram(many))
            found |= {scan.name: (cut << 8) + 255 if is_deep else cut for scan in many}
    return {scan.name: found[scan.name] for scan in scans if scan.name in found}


def threshold_of(histogram: NDArray[np.int64]) -> int:
    """`MIDDLE` where the values gather at 0 and 255, else Otsu's threshold."""
    return MIDDLE if is_smoothed(histogram) else otsu(histogram)


def otsu(histogram: NDArray[np.int64]) -> int:
    """The threshold that best separates two classes of values: the greatest variance between their means.

    Args:
        histogram: (256,), pixels per value; at least one pixel.

    Returns:
        The value t such that values up to t are one class; in the middle where several are equally good.

    Source:
        N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9(1), 1979.
    """
    share = histogram / histogram.sum()
    below = share.cumsum()
    mean_below = (share * np.arange(len(share))).cumsum()
    apart = below * (1 - below)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.where(apart > 1e-12, (mean_below[-1] * below - mean_below) ** 2 / apart, 0.0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return int(best[len(best) // 2]) if between.max() > 0 else 0


def _is_usual(scan: ScanStatistics) -> bool:
    values = scan.of_mask.values
    return values.is_empty or (values.is_two_valued and values.highest in _USUAL_FOREGROUND)


def _is_deep(scan: ScanStatistics) -> bool:
    return scan.of_mask.values.highest > 255
