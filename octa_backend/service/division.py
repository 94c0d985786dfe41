"""Which scans of a dataset train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octa_backend.data.folds import assign_folds
from octa_backend.data.splits import Splits, assign_splits
from octa_backend.data.store import DatasetStore
from octa_backend.errors import InvalidConfig
from octa_backend.training.config import TrainConfig

DIVIDING = ("seed", "val_fraction")
"""Fields of a config that decide which scans validate, where neither the dataset nor a fold does."""


def divide(store: DatasetStore, config: TrainConfig, fold: int | None) -> Splits:
    """Divide the scans as a config says.

    Args:
        store: the dataset.
        config: with `seed`, `val_fraction` and `folds`.
        fold: which of `config.folds` validates; None divides as `config.val_fraction` says.

    Raises:
        InvalidConfig: there are fewer patients, or scans, than folds.
    """
    scans = store.manifest.scans
    if fold is None:
        return assign_splits(scans, config.val_fraction, config.seed)
    foreground = [float(np.count_nonzero(mask) / mask.size) for mask in map(store.mask, range(len(store)))]
    return assign_folds(scans, foreground, config.folds, config.seed)[fold - 1]


def require_division(store: DatasetStore, config: TrainConfig, before: TrainConfig, fold: int | None) -> None:
    """Refuse a config with which other scans would validate than the weights that are there were trained without.

    Args:
        store, config, fold: as of `divide`.
        before: what the weights were trained with.

    Raises:
        InvalidConfig: naming what was changed.
    """
    changed = [name for name in DIVIDING if getattr(config, name) != getattr(before, name)]
    former = config.model_copy(update={name: getattr(before, name) for name in changed})
    if changed and divide(store, former, fold) != divide(store, config, fold):
        raise InvalidConfig(
            f"with {_told(config, changed)} other scans validate than those that the weights were trained without; "
            f"keep {_told(before, changed)}, or train anew in another folder"
        )


def _told(config: TrainConfig, fields: Sequence[str]) -> str:
    return " and ".join(f"{name}={getattr(config, name)}" for name in fields)
