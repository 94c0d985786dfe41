"""Folds of a cross-validation: whole patients, as many scans and as much foreground in each fold as can be."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from octa_backend.data.patients import by_patient
from octa_backend.data.splits import Splits
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
    The largest groups are dealt out first, equal ones by their foreground, each to a fold with the fewest scans so far,
    at random among those: groups of like foreground come into different folds.

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
    order = sorted(
        range(len(groups)), key=lambda at: (-len(groups[at]), fmean(foreground[i] for i in groups[at]), chance[at])
    )
    dealt: list[list[int]] = [[] for _ in range(folds)]
    for number, at in enumerate(order):
        if number % folds == 0:
            luck = generator.permutation(folds)
        emptiest = min(range(folds), key=lambda fold: (len(dealt[fold]), luck[fold]))
        dealt[emptiest] += groups[at]
    test = tuple(index for index, entry in enumerate(entries) if entry.split == "test")
    grouped = len(groups) < len(pool)
    return [
        Splits(tuple(index for index in pool if index not in set(val)), tuple(sorted(val)), test, grouped)
        for val in dealt
    ]


def _pool(entries: Sequence[ScanEntry]) -> list[int]:
    return [index for index, entry in enumerate(entries) if entry.split != "test"]
