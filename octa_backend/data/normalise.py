"""Intensities as networks get them, the same way for training, evaluation and prediction.

First every scan is brought to 0..1, which pictures show and augmentation computes in. Then it is stretched between two
percentiles or standardised where the configuration says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Normalisation = Literal["unit", "zscore", "percentile"]
PERCENTILES = (1.0, 99.0)


def to_unit(image: NDArray[np.generic], limits: tuple[float, float] | None = None) -> NDArray[np.float32]:
    """Scale one scan to 0..1.

    8-bit images are divided by 255. Deeper ones rarely use their whole range, so they are stretched from their
    own minimum to their own maximum; a constant one becomes 0.

    Args:
        image: (C, *spatial), uint8, uint16 or float32, or a part of it.
        limits: the scan's `unit_limits`, where `image` is a part of it.

    Returns:
        float32, (C, *spatial), in 0..1.
    """
    low, high = limits or unit_limits(image)
    values = image.astype(np.float32)
    if high <= low:
        return np.zeros_like(values)
    return (values - np.float32(low)) / (np.float32(high) - np.float32(low))


def unit_limits(image: NDArray[np.generic]) -> tuple[float, float]:
    """The values that become 0 and 1: 0 and 255 of 8-bit scans, else the scan's own smallest and largest."""
    if image.dtype == np.uint8:
        return 0.0, 255.0
    return float(image.min()), float(image.max())


@dataclass(frozen=True, slots=True)
class Levels:
    """What one scan in 0..1 needs to be normalised; all its channels alike, so that colours keep their hue.

    Attributes:
        black: value that becomes 0.
        white: value that becomes 1; what lies outside is cut off. 0 and 1 where nothing is stretched.
        mean: what is taken away.
        deviation: what is divided by, above 0. 0 and 1 where nothing is standardised.
    """

    black: float = 0.0
    white: float = 1.0
    mean: float = 0.0
    deviation: float = 1.0

    def stretch(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """From black..white to 0..1: a scan in 0..1, or a part of it; a scan without contrast becomes 0."""
        if (self.black, self.white) == (0.0, 1.0):
            return unit
        if self.white <= self.black:
            return np.zeros_like(unit)
        span = np.float32(self.white) - np.float32(self.black)
        stretched: NDArray[np.float32] = np.clip((unit - np.float32(self.black)) / span, np.float32(0), np.float32(1))
        return stretched

    def standardise(self, stretched: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the mean away and divide by the deviation."""
        if (self.mean, self.deviation) == (0.0, 1.0):
            return stretched
        return (stretched - np.float32(self.mean)) / np.float32(self.deviation)


def measure(unit: NDArray[np.float32], how: Normalisation) -> Levels:
    """The levels of a whole scan.

    Args:
        unit: (C, *spatial) in 0..1.
        how: `unit` leaves it so; `zscore` gives it mean 0 and deviation 1 (a constant scan becomes 0); `percentile`
            stretches it from its 1st to its 99th percentile, so that a few very bright pixels do not darken the rest.
    """
    if how == "percentile":
        black, white = np.percentile(unit, PERCENTILES)
        return Levels(black=float(black), white=float(white))
    if how == "zscore":
        return Levels(mean=float(unit.mean(dtype=np.float64)), deviation=float(unit.std(dtype=np.float64)) or 1.0)
    return Levels()


def normalise(unit: NDArray[np.float32], how: Normalisation) -> NDArray[np.float32]:
    """Normalise a whole scan (C, *spatial) that is in 0..1; float32."""
    levels = measure(unit, how)
    return levels.standardise(levels.stretch(unit))
