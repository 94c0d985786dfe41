"""What a planted fault is: the scans, how strong it is, and what should notice it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octa_backend.data.scans import MaskPixels

SPLITS = ("train", "train", "train", "val", "test")


@dataclass(frozen=True)
class Scan:
    """A decoded scan: image (C, H, W), mask, and what its name says."""

    name: str
    image: NDArray[Any]
    mask: MaskPixels
    alpha: str = "none"
    patient: str | None = None
    split: str | None = None

    @property
    def values(self) -> NDArray[Any]:
        assert self.mask.values is not None
        return self.mask.values

    @property
    def inside(self) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = self.values != 0
        return inside


@dataclass(frozen=True)
class Planted:
    """A dataset with a fault, and the scans that the finding should name; none for a fault of the whole dataset."""

    scans: list[Scan]
    expected: frozenset[str] = field(default_factory=frozenset)


Plant = Callable[[list[Scan], Any, np.random.Generator], Planted | None]


@dataclass(frozen=True)
class Fault:
    """One kind of fault: the finding that should notice it, its levels, and how it is planted.

    `also`: another finding that says as much.
    """

    code: str
    label: str
    levels: Sequence[Any]
    plant: Plant
    also: str = ""


def some(scans: Sequence[Scan], rng: np.random.Generator, share: float = 0.15) -> list[int]:
    """Indices of a few scans: at least one, at most eight."""
    count = min(8, max(1, round(share * len(scans))))
    return sorted(int(i) for i in rng.choice(len(scans), count, replace=False))


def in_some(change: Callable[[Scan, Any, np.random.Generator], Scan | None], share: float = 0.15) -> Plant:
    """Plant by changing a few scans; a scan that cannot be changed so stays."""

    def plant(scans: list[Scan], level: Any, rng: np.random.Generator) -> Planted | None:
        changed = {scans[at].name: new for at in some(scans, rng, share) if (new := change(scans[at], level, rng))}
        if not changed:
            return None
        return Planted([changed.get(scan.name, scan) for scan in scans], frozenset(changed))

    return plant


def in_all(change: Callable[[Scan, Any, np.random.Generator], Scan]) -> Plant:
    """Plant by changing every scan."""
    return lambda scans, level, rng: Planted([change(scan, level, rng) for scan in scans])


def with_mask(scan: Scan, values: NDArray[Any]) -> Scan:
    return replace(scan, mask=MaskPixels(np.ascontiguousarray(values)))


def each_channel(image: NDArray[Any], change: Callable[[Image.Image], Image.Image]) -> NDArray[Any]:
    return np.stack([np.asarray(change(Image.fromarray(channel))) for channel in image])


def binary(scan: Scan) -> NDArray[np.uint8]:
    return scan.inside.astype(np.uint8) * np.uint8(255)


def through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def by_chance_split(scans: Sequence[Scan], rng: np.random.Generator) -> list[Scan]:
    """An official split by scan: three fifths, one fifth, one fifth, each at least one where there are enough."""
    order = rng.permutation(len(scans))
    return [replace(scan, split=SPLITS[int(order[at]) % len(SPLITS)]) for at, scan in enumerate(scans)]


def clipped(values: NDArray[Any]) -> NDArray[np.uint8]:
    grey: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return grey
