"""Whether a scan is like those that a model was trained on: a few numbers of each, and the range that they had.

A network answers any picture, and is sure of itself also where it has never seen the like of it. These numbers tell
scans of another kind, device or exposure; they do not tell whether the mask is right.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octa_backend.data.normalise import to_unit
from octa_backend.inference.channels import match_channels

SIDE = 256
"""The longer side, pixels, to which scans are brought before they are measured, so that sizes can be compared."""

SHARES = (1.0, 99.0)
"""The percentiles of the training scans between which a number is surely usual."""

LEVELS = 64
"""Of the greys whose entropy is measured."""

LIMIT = 2.0
"""A number that is further outside of them than so many of the training scans' spreads is out of range."""

FEW = 8
"""So many training scans make the limit twice as wide, more of them less so: few do not show all that is usual."""

MAD_TO_DEVIATION = 1.4826
"""Of a normal distribution (P. J. Rousseeuw, C. Croux, J. Am. Stat. Assoc. 88(424), 1993)."""

SMALLEST_SPREAD: Mapping[str, float] = {
    "mean": 0.03,
    "deviation": 0.02,
    "low": 0.03,
    "high": 0.06,
    "skewness": 0.3,
    "sharpness": 0.2,
    "entropy": 0.15,
    "colour": 0.02,
    "size": 0.5,
}
"""Of each number, in its own unit: few or very similar training scans must not make a range that no other scan fits."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """One number of a scan, and the range that it is out of."""

    feature: str
    value: float
    low: float
    high: float


def features_of(image: NDArray[np.generic]) -> dict[str, float]:
    """The numbers of one scan.

    Args:
        image: (C, H, W) as decoded, one or three channels.

    Returns:
        Of the grey picture in 0..1, scaled down to `SIDE`: `mean`, `deviation`, `low` and `high` (1st and 99th
        percentile), `skewness`, `entropy` (bits, of `LEVELS` greys), `sharpness` (natural logarithm of the variance of
        the Laplacian over that of the greys). Of the whole: `colour` (mean over pixels of the largest less the smallest
        channel), `size` (binary logarithm of the root of width × height).
    """
    unit = to_unit(image)
    grey = _small(match_channels(unit, 1)[0])
    low, high = np.percentile(grey, (1, 99))
    centred = grey - grey.mean()
    deviation = float(np.sqrt((centred * centred).mean()))
    return {
        "mean": float(grey.mean()),
        "deviation": deviation,
        "low": float(low),
        "high": float(high),
        "skewness": float((centred * centred * centred).mean() / max(deviation, 1e-6) ** 3),
        "sharpness": math.log(max(_detail(grey), 1e-9) / max(deviation**2, 1e-9)),
        "entropy": _entropy_bits(grey),
        "colour": float((unit.max(axis=0) - unit.min(axis=0)).mean()) if len(unit) > 1 else 0.0,
        "size": math.log2(unit.shape[1] * unit.shape[2]) / 2,
    }


def _small(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Area means of at most `SIDE` pixels on the longer side."""
    height, width = grey.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX)).clip(0, 1)


def _detail(grey: NDArray[np.float32]) -> float:
    """Variance of the Laplacian of the inner pixels; 0 where there are none."""
    inner = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(inner.var()) if inner.size else 0.0


def _entropy_bits(grey: NDArray[np.float32]) -> float:
    levels = np.minimum((grey * LEVELS).astype(np.intp), LEVELS - 1)
    shares = np.bincount(levels.ravel()) / grey.size
    return float(-sum(share * math.log2(share) for share in shares if share > 0))


def summarise(scans: Iterable[Mapping[str, float]], smallest: Mapping[str, float] = SMALLEST_SPREAD) -> dict[str, Any]:
    """What is kept of the training scans in a model's card.

    Args:
        scans: the numbers of each, at least one.
        smallest: the numbers that are looked at, and the least spread of each.

    Returns:
        `scans`, how many; `features`, of each number: `median`, `low` and `high` (the `SHARES`), and `spread`:
        `MAD_TO_DEVIATION` times the median distance from the median, or the smallest one where that is larger.
    """
    rows = list(scans)
    features = {name: np.array([row[name] for row in rows]) for name in smallest}
    told = {name: _summary(values, smallest[name]) for name, values in features.items()}
    return {"scans": len(rows), "features": told}


def _summary(values: NDArray[np.float64], smallest: float) -> dict[str, float]:
    median = float(np.median(values))
    low, high = (float(value) for value in np.percentile(values, SHARES))
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(values - median)))
    return {"median": median, "low": low, "high": high, "spread": max(spread, smallest)}


def outliers(scan: Mapping[str, float], statistics: Mapping[str, Any]) -> list[Outlier]:
    """Which numbers of a scan lie outside of what the training scans had.

    Args:
        scan: see `features_of`.
        statistics: see `summarise`; a number that it does not have is not judged.

    Returns:
        The furthest first.
    """
    found = []
    limit = LIMIT * (1 + FEW / statistics["scans"])
    for name, of_training in statistics["features"].items():
        margin = limit * of_training["spread"]
        low, high = of_training["low"] - margin, of_training["high"] + margin
        if name in scan and not low <= scan[name] <= high:
            beyond = max(low - scan[name], scan[name] - high) / of_training["spread"]
            found.append((beyond, Outlier(name, scan[name], low, high)))
    return [outlier for _, outlier in sorted(found, key=lambda one: -one[0])]
