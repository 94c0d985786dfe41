"""Folds of a cross-validation: whole patients, as many scans and as much foreground in each fold as can be."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from octa_backend.data.splits import Splits, by_patient
from octa_backend.data.store import ScanEntry
from octa_backend.errors import InvalidConfig


def check_folds(entries: Sequence[ScanEntry], folds: int) -> None:
    """See that every fold gets a scan.

    Raises:
        InvalidConfig: there are fewer patients, or scans, than folds.
    """
    groups = by_patient(_pool(entries), entries)
    if len(groups) < folds:
        grouped = any(len(group) > 1 for group in groups)
        what = "patients, of whom each is in one fold" if grouped else "scans beside the test split"
        raise InvalidConfig(f"folds={folds}, but the dataset has {len(groups)} {what}; ask for fewer folds")


def assign_folds(entries: Sequence[ScanEntry], foreground: Sequence[float], folds: int, seed: int) -> list[Splits]:
    """Divide all scans but those of the official test split into folds, of which each validates once.

    Official training and validation scans are taken together. Patients stay whole, by the rule of `assign_splits`.
    The groups are sorted by their foreground and dealt out in rounds of one per fold, the groups of a round at random,
    but the larger ones to the folds that have fewer scans so far.

    Args:
        entries: the scans of a dataset.
        foreground: share of foreground pixels of each scan, 0..1.
        folds: how many, 2 or more.
        seed: the same seed gives the same answer.

    Returns:
        One `Splits` per fold: the fold validates, the others train, the official test split is the same in all.

    Raises:
        InvalidConfig: there are fewer patients, or scans, than folds.
    """
    check_folds(entries, folds)
    pool = _pool(entries)
    groups = by_patient(pool, entries)
    generator = np.random.default_rng(seed)
    chance = generator.permutation(len(groups))
    order = sorted(range(len(groups)), key=lambda at: (fmean(foreground[i] for i in groups[at]), chance[at]))
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for first in range(0, len(order), folds):
        dealt_now = sorted(order[first : first + folds], key=lambda at: (-len(groups[at]), chance[at]))
        luck = generator.permutation(folds)
        emptiest = sorted(range(folds), key=lambda fold: (len(dealt[fold]), luck[fold]))
        for at, fold in zip(dealt_now, emptiest, strict=False):
            dealt[fold] += groups[at]
    test = tuple(index for index, entry in enumerate(entries) if entry.split == "test")
    grouped = len(groups) < len(pool)
    return [
        Splits(tuple(index for index in pool if index not in set(val)), tuple(sorted(val)), test, grouped)
        for val in dealt
    ]


def _pool(entries: Sequence[ScanEntry]) -> list[int]:
    return [index for index, entry in enumerate(entries) if entry.split != "test"]
