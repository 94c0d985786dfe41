"""Label errors: masks whose values are in order, but which say something else than their image shows.

Several kinds are planted in one copy, a few scans of all, because each copy needs a training before it can be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from planted_masks import shifted, turned
from planting import Scan, binary, with_mask
from scipy import ndimage

SPECK = 3
"""Pixels a side."""

Change = Callable[[list[Scan], Any, np.random.Generator], list[Scan]]


@dataclass(frozen=True)
class LabelError:
    """One kind: what it does to so many scans at a time, at levels of which each seed takes one."""

    label: str
    levels: Sequence[Any]
    change: Change
    scans: int = 1


@dataclass(frozen=True)
class Mislabelled:
    """A copy of a dataset with label errors, and the names of the scans that have each kind."""

    scans: list[Scan]
    wrong: Mapping[str, frozenset[str]]


def mislabelled(scans: Sequence[Scan], errors: Sequence[LabelError], seed: int) -> Mislabelled:
    """Plant one error of each kind, each in other scans."""
    rng = np.random.default_rng([seed, len(errors[0].label)])
    order = iter(rng.permutation(len(scans)))
    copy, wrong = list(scans), {}
    for error in errors:
        chosen = [int(next(order)) for _ in range(error.scans)]
        level = error.levels[seed % len(error.levels)]
        for at, changed in zip(chosen, error.change([scans[at] for at in chosen], level, rng), strict=True):
            copy[at] = changed
        wrong[error.label] = frozenset(scans[at].name for at in chosen)
    return Mislabelled(copy, wrong)


def each(change: Callable[[Scan, Any, np.random.Generator], Scan]) -> Change:
    return lambda scans, level, rng: [change(scan, level, rng) for scan in scans]


def exchanged(scans: list[Scan], _: Any, __: np.random.Generator) -> list[Scan]:
    """Each scan has the mask of the next one."""
    return [with_mask(scan, binary(other)) for scan, other in zip(scans, scans[1:] + scans[:1], strict=True)]


def half_erased(scan: Scan, side: str, _: np.random.Generator) -> Scan:
    """The foreground of one half of the scan is background."""
    mask = binary(scan)
    height, width = mask.shape
    halves: dict[str, Any] = {
        "upper": np.s_[: height // 2],
        "lower": np.s_[height // 2 :],
        "left": np.s_[:, : width // 2],
        "right": np.s_[:, width // 2 :],
    }
    mask[halves[side]] = 0
    return with_mask(scan, mask)


def specks(scan: Scan, count: int, rng: np.random.Generator) -> Scan:
    """So many small squares anywhere, and nothing else."""
    mask = np.zeros_like(binary(scan))
    for _ in range(count):
        top, left = (int(rng.integers(side - SPECK)) for side in mask.shape)
        mask[top : top + SPECK, left : left + SPECK] = 255
    return with_mask(scan, mask)


def widened(scan: Scan, pixels: int, _: np.random.Generator) -> Scan:
    """Everything is drawn so many pixels too wide on each side."""
    wide = ndimage.binary_dilation(scan.inside, iterations=pixels)
    return with_mask(scan, wide.astype(np.uint8) * np.uint8(255))


MIXES = (
    (
        LabelError("mask of another scan", ("",), exchanged, scans=2),
        LabelError("half erased", ("upper", "left", "lower", "right"), each(half_erased)),
        LabelError("1 to 20 specks", (1, 3, 5, 10, 20), each(specks)),
    ),
    (
        LabelError("shifted 4 to 16 pixels", (4, 6, 8, 12, 16), each(shifted)),
        LabelError("mirrored", ("up_down", "left_right", "both"), each(turned)),
        LabelError("2 to 4 pixels too wide", (2, 3, 4), each(widened)),
    ),
)
"""Kinds that are planted together."""
