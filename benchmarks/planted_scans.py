"""Faults of a set's scans that a training suffers from: each takes the scans and a generator and gives new scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from planted_masks import exchanged, moved, smoothed, some_inverted
from planting import Scan, binary, some, with_mask

Scans = Sequence[Scan]
PlantScans = Callable[[Scans, np.random.Generator], Scans]

SHIFT = 6
"""Pixels by which a shifted mask is off: further than the vessels of these small scans are wide."""

INVERTED_SHARE = 1 / 3
JPEG = "jpeg 60"

FEW = 5
"""Scans to learn from where they are too few."""

RANDOM_SHARE = 0.4
"""Share of a mask's pixels that get a random label."""

SCARCE_SHARE = 0.003
SPOT_RADIUS = 2.2
"""Pixels; a spot of this radius has about 13 of them."""

SPOT_LIGHT = 160
"""Grey levels that a spot is brighter than its surroundings."""


def as_given(scans: Scans, _: np.random.Generator) -> Scans:
    """No fault."""
    return scans


def shuffled(scans: Scans, rng: np.random.Generator) -> Scans:
    """Each image has the mask of another."""
    planted = exchanged(list(scans), "all", rng)
    assert planted is not None, "there are several scans of one size"
    return planted.scans


def shifted(scans: Scans, rng: np.random.Generator) -> Scans:
    """Every mask is moved by as much, each to its own side."""
    angles = rng.uniform(0, 2 * np.pi, len(scans))
    ways = [(round(SHIFT * np.sin(angle)), round(SHIFT * np.cos(angle))) for angle in angles]
    return [with_mask(scan, moved(binary(scan), *way)) for scan, way in zip(scans, ways, strict=True)]


def inverted(scans: Scans, rng: np.random.Generator) -> Scans:
    """A third of the masks have foreground and background exchanged."""
    planted = some_inverted(list(scans), INVERTED_SHARE, rng)
    return scans if planted is None else planted.scans


def grey(scans: Scans, rng: np.random.Generator) -> Scans:
    """Masks saved as JPEG: whatever is not 0 counts as foreground."""
    return [smoothed(scan, JPEG, rng) for scan in scans]


def with_nan(scans: Scans, rng: np.random.Generator) -> Scans:
    """A few images to learn from have one pixel that is no number; the intake leaves such scans out."""
    train = [scan for scan in scans if scan.split == "train"]
    chosen = {train[at].name for at in some(train, rng)}
    return [_nan_in(scan, rng) if scan.name in chosen else scan for scan in scans]


def _nan_in(scan: Scan, rng: np.random.Generator) -> Scan:
    image = scan.image.astype(np.float32)
    image.ravel()[rng.integers(image.size)] = np.nan
    return replace(scan, image=image)


def few(scans: Scans, _: np.random.Generator) -> Scans:
    """Hardly any scans to learn from; as many as before to validate on."""
    train, val = ([scan for scan in scans if scan.split == split] for split in ("train", "val"))
    return [*train[:FEW], *val]


def random_labels(scans: Scans, rng: np.random.Generator) -> Scans:
    """Pixels of every mask get a label by the toss of a coin."""
    return [with_mask(scan, _with_random_labels(binary(scan), rng)) for scan in scans]


def _with_random_labels(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    tossed = (rng.random(mask.shape) < 0.5).astype(np.uint8) * np.uint8(255)
    return np.where(rng.random(mask.shape) < RANDOM_SHARE, tossed, mask)


def scarce(scans: Scans, rng: np.random.Generator) -> Scans:
    """What is to be found are a few small bright spots."""
    return [_spotted(scan, rng) for scan in scans]


def _spotted(scan: Scan, rng: np.random.Generator) -> Scan:
    height, width = scan.inside.shape
    y, x = np.mgrid[:height, :width]
    inside = np.zeros((height, width), bool)
    while inside.mean() < SCARCE_SHARE * 0.75:  # a further spot would be nearer to twice the share than to it
        row, column = rng.uniform(4, height - 4), rng.uniform(4, width - 4)
        inside |= (y - row) ** 2 + (x - column) ** 2 < SPOT_RADIUS**2
    image: NDArray[Any] = np.clip(scan.image.astype(np.int16) + SPOT_LIGHT * inside, 0, 255).astype(np.uint8)
    return with_mask(replace(scan, image=image), inside.astype(np.uint8) * np.uint8(255))
