"""Grey levels of masks that are classes: background, avascular zone and vessels saved as 0, 100 and 255."""

from __future__ import annotations

from collections.abc import Sequence

from octa_backend.data.mask_values import MOST_LEVELS
from octa_backend.data.statistics import ScanStatistics
from octa_backend.diagnosis.mask_greys import greys_shown

COVERS = 0.8
"""Share of a level's pixels that are no edge, from which on it is a class. Classes drawn in three or four levels have
0.94 to 1; levels of masks that were resized, or blurred by half a pixel, have 0.12 at most. Thin vessels blurred by a
pixel or more and left with three to five levels have up to 0.98: those are asked about, too."""

LEAST_SHARE = 0.002
"""A level that covers less of its masks is no class, but stray pixels."""

NEAR_THE_ENDS = 1 / 8
"""Of the highest value: a level nearer to it, or to 0, may be one of these that was saved badly."""


def of_levels(offenders: Sequence[ScanStatistics]) -> list[ScanStatistics]:
    """Of masks without meaning those whose few levels look like classes; none where they look smoothed.

    One level must be far from background and from the highest, and cover areas in more than one mask.
    """
    few = [scan for scan in offenders if 0 < len(scan.of_mask.counts) <= MOST_LEVELS]
    levels = levels_together(few)
    if not 3 <= len(levels) <= MOST_LEVELS or levels[0] != 0:
        return []
    low, high = NEAR_THE_ENDS * levels[-1], (1 - NEAR_THE_ENDS) * levels[-1]
    return few if any(low <= level <= high and _covers_areas(few, level) for level in levels) else []


def levels_together(scans: Sequence[ScanStatistics]) -> list[int]:
    """The values of masks of few values, rising."""
    return sorted({value for scan in scans for value, _ in scan.of_mask.counts})


def level_map(scans: Sequence[ScanStatistics]) -> dict[str, int]:
    """A class number for each grey that masks show, from dark to bright; nothing where some show no greys.

    Args:
        scans: the masks of few values, empty ones among them.

    Returns:
        "#rrggbb" -> value, as a step `map_colours` takes it.
    """
    levels = levels_together(scans)
    are_greys = all(greys_shown(scan.of_mask) or scan.of_mask.values.is_empty for scan in scans)
    if not are_greys or len(levels) > MOST_LEVELS:
        return {}
    return {f"#{level:02x}{level:02x}{level:02x}": number for number, level in enumerate(levels)}


def _covers_areas(scans: Sequence[ScanStatistics], level: int) -> bool:
    there = [scan.of_mask for scan in scans if level in dict(scan.of_mask.counts)]
    area = sum(dict(mask.counts)[level] for mask in there)
    standing = sum(dict(mask.standing).get(level, 0) for mask in there)
    whole = sum(mask.shape[0] * mask.shape[1] for mask in there)
    return len(there) > 1 and area >= LEAST_SHARE * whole and standing >= COVERS * area
