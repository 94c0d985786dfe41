"""How often each class is in the training scans, and the weights that make up for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from octa_backend.data.store import DatasetStore

BOUNDS = (0.01, 100.0)
"""Weights stay within: where a class has one pixel in ten thousand, its weight would leave every step to that pixel."""


def class_pixels(store: DatasetStore, scans: Iterable[int]) -> tuple[int, ...]:
    """How many pixels of each class, background first, the masks of some scans hold together."""
    classes = store.manifest.classes
    counts = np.zeros(classes, np.int64)
    for index in scans:
        counts += np.bincount(store.mask(index).ravel(), minlength=classes)
    return tuple(counts.tolist())


def foreground_weight(pixels: Sequence[int]) -> float:
    """Background over foreground pixels, within `BOUNDS`: both then weigh alike in the binary cross-entropy.

    Args:
        pixels: how many of each class, background first.
    """
    return _bounded(pixels[0] / max(1, sum(pixels[1:])))


def inverse_frequencies(pixels: Sequence[int]) -> tuple[float, ...]:
    """N / (K·n) of each class with n of N pixels, within `BOUNDS`: all K classes then weigh alike.

    Args:
        pixels: how many of each class, background first.

    Source:
        G. King and L. Zeng, Logistic regression in rare events data, Political Analysis 9(2), 2001.
    """
    return tuple(_bounded(sum(pixels) / (len(pixels) * max(1, count))) for count in pixels)


def _bounded(weight: float) -> float:
    """Within `BOUNDS`, four digits: more would claim a precision that the masks do not have."""
    return float(f"{min(max(weight, BOUNDS[0]), BOUNDS[1]):.4g}")
