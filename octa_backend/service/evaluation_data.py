"""Which scans of a zip are evaluated, and which of them a model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octa_backend.data.store import DatasetStore
from octa_backend.errors import OctaError


@dataclass(frozen=True, slots=True)
class EvaluatedZip:
    """A dataset, and the zip that it was made of."""

    store: DatasetStore
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Division:
    """Which scans of the evaluated zip serve for what.

    Attributes:
        splits: indices of "train", "val" and "test". Those of the training where the zip is the model's own; else
            the official ones of the zip, which may leave scans out.
        own: whether it is the zip that the model was trained on.
        size: how many scans there are.
    """

    splits: Mapping[str, tuple[int, ...]]
    own: bool
    size: int

    def choose(self, wanted: str | None) -> tuple[str, tuple[int, ...]]:
        """The split to evaluate and its scans.

        Raises:
            OctaError: it has none.
        """
        split = wanted or next((name for name in ("test", *(("val",) if self.own else ())) if self.splits[name]), "all")
        indices = tuple(range(self.size)) if split == "all" else self.splits[split]
        if not indices:
            raise OctaError(f"the zip has no scans for {split}: {self._counts()}; choose another split, or all")
        return split, indices

    def validation(self) -> tuple[int, ...]:
        """The scans on which a threshold is tuned.

        Raises:
            OctaError: there are none.
        """
        if not self.splits["val"]:
            raise OctaError(f"a threshold is tuned on validation scans and the zip has none: {self._counts()}")
        return self.splits["val"]

    def split_of(self, index: int) -> str | None:
        """The first split that a scan is in."""
        return next((name for name, indices in self.splits.items() if index in indices), None)

    def _counts(self) -> str:
        return ", ".join(f"{len(indices)} {name}" for name, indices in self.splits.items()) + f", {self.size} in all"


def divide(data: EvaluatedZip, card: Mapping[str, Any]) -> Division:
    """Find out which scans the model has seen."""
    scans = data.store.manifest.scans
    own = card["dataset"]["sha256"] == data.sha256
    if own:
        named = {name: set(card["splits"][name]) for name in ("train", "val", "test")}
        splits = {name: tuple(i for i, scan in enumerate(scans) if scan.name in named[name]) for name in named}
    else:
        splits = {
            name: tuple(i for i, scan in enumerate(scans) if scan.split == name) for name in ("train", "val", "test")
        }
    return Division(splits, own, len(scans))
