"""Intensities as networks get them, the same way for training, evaluation and prediction.

First every scan is brought to 0..1, which pictures show and augmentation computes in. Then it is stretched between two
percentiles or standardised where the configuration says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Normalisation = Literal["unit", "zscore", "percentile", "zscore_nonzero"]
PERCENTILES = (1.0, 99.0)
NONZERO_PERCENTILES = (0.5, 99.5)
"""Source: F. Isensee et al., nnU-Net, Nature Methods 18, 2021, which clips so before it standardises."""

Number = float | tuple[float, ...]
"""One for all channels, or one for each."""


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
    """What one scan in 0..1 needs to be normalised.

    All its channels alike, so that colours keep their hue; or each by itself, as modalities of a volume need it.

    Attributes:
        black: value that becomes 0.
        white: value that becomes 1; what lies outside is cut off. 0 and 1 where nothing is stretched.
        mean: what is taken away.
        deviation: what is divided by, above 0. 0 and 1 where nothing is standardised.
    """

    black: Number = 0.0
    white: Number = 1.0
    mean: Number = 0.0
    deviation: Number = 1.0

    def stretch(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """From black..white to 0..1: a scan in 0..1, or a part of it; a scan without contrast becomes 0."""
        if (self.black, self.white) == (0.0, 1.0):
            return unit
        black, white = _beside(self.black, unit), _beside(self.white, unit)
        has_contrast = white > black
        span = np.where(has_contrast, white - black, np.float32(1))
        stretched: NDArray[np.float32] = np.clip((unit - black) / span, np.float32(0), np.float32(1))
        return stretched if has_contrast.all() else stretched * has_contrast

    def standardise(self, stretched: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the mean away and divide by the deviation."""
        if (self.mean, self.deviation) == (0.0, 1.0):
            return stretched
        mean, deviation = _beside(self.mean, stretched), _beside(self.deviation, stretched)
        standardised: NDArray[np.float32] = (stretched - mean) / deviation
        return standardised


def _beside(number: Number, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """As an array that is spread over (C, *spatial)."""
    return np.asarray(number, dtype=np.float32).reshape(-1, *[1] * (image.ndim - 1))


def measure(unit: NDArray[np.float32], how: Normalisation) -> Levels:
    """The levels of a whole scan.

    Args:
        unit: (C, *spatial) in 0..1.
        how: `unit` leaves it so; `zscore` gives it mean 0 and deviation 1 (a constant scan becomes 0); `percentile`
            stretches it from its 1st to its 99th percentile, so that a few very bright pixels do not darken the rest
            (from its least to its greatest value where these are one: what there is to see is fewer pixels);
            `zscore_nonzero` looks at each channel by itself, and only at what lies above its least value (the empty
            space around a body): it cuts off beyond the 0.5 and 99.5 percentiles and gives the rest mean 0 and
            deviation 1.
    """
    if how == "zscore_nonzero":
        return Levels(*zip(*(_of_foreground(channel) for channel in unit), strict=True))
    if how == "percentile":
        black, white = np.percentile(unit, PERCENTILES)
        if white <= black:
            black, white = unit.min(), unit.max()
        return Levels(black=float(black), white=float(white))
    if how == "zscore":
        return Levels(mean=float(unit.mean(dtype=np.float64)), deviation=float(unit.std(dtype=np.float64)) or 1.0)
    return Levels()


def _of_foreground(channel: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Black, white, mean and deviation of one channel by what lies above its least value; mean and deviation after the
    stretch from black to white. A constant channel becomes 0."""
    inside = channel[channel > channel.min()]
    if not inside.size:
        return float(channel.min()), float(channel.min()), 0.0, 1.0
    black, white = (float(level) for level in np.percentile(inside, NONZERO_PERCENTILES))
    if white <= black:  # two values: nothing to cut off
        black, white = float(channel.min()), float(inside.max())
    cut = Levels(black, white).stretch(inside[np.newaxis])
    return black, white, float(cut.mean(dtype=np.float64)), float(cut.std(dtype=np.float64)) or 1.0


def normalise(unit: NDArray[np.float32], how: Normalisation) -> NDArray[np.float32]:
    """Normalise a whole scan (C, *spatial) that is in 0..1; float32."""
    levels = measure(unit, how)
    return levels.standardise(levels.stretch(unit))
