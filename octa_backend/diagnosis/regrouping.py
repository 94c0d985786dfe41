"""Splits that keep each patient whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from octa_backend.data.statistics import KnownScan
from octa_backend.diagnosis.leakage import KEPT_FIRST, split_of, torn_patients

TOLERANCE = 0.1
"""A split may grow by this share of its scans before a patient goes elsewhere."""


def regrouped(scans: Sequence[KnownScan]) -> dict[str, str]:
    """Give all scans of each torn patient to one of the splits that they are in.

    Splits keep about their sizes. While there is room, a patient who is in the test goes there whole, others go where
    most of their scans are; patients who are in one split stay.

    Returns:
        Scan -> new split, for scans that move only.
    """
    torn = torn_patients(scans)
    wanted = Counter(split_of(scan) for scan in scans)
    sizes = Counter(wanted)
    for those in torn.values():
        sizes.subtract(split_of(scan) for scan in those)
    moves: dict[str, str] = {}
    for patient in sorted(torn, key=lambda patient: (-len(torn[patient]), patient)):
        chosen = _choose([split_of(scan) for scan in torn[patient]], sizes, wanted)
        sizes[chosen] += len(torn[patient])
        moves |= {scan.name: chosen for scan in torn[patient] if split_of(scan) != chosen}
    return moves


def _choose(splits: Sequence[str], sizes: Counter[str], wanted: Counter[str]) -> str:
    """The split among those of one patient's scans that all of them go to."""
    there = Counter(splits)

    def badness(split: str) -> tuple[float, bool, int, int]:
        overfull = max(0.0, (sizes[split] + len(splits)) / wanted[split] - 1 - TOLERANCE)
        return overfull, split != "test", -there[split], KEPT_FIRST.index(split)

    return min(there, key=badness)
