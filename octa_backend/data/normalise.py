"""Intensities brought to 0..1, the same way for training and prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_unit(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Scale one scan to 0..1.

    8-bit images are divided by 255. Deeper ones rarely use their whole range, so they are stretched from their
    own minimum to their own maximum; a constant one becomes 0.

    Args:
        image: (C, *spatial), uint8, uint16 or float32.

    Returns:
        float32, (C, *spatial), in 0..1.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    values = image.astype(np.float32)
    low, high = values.min(), values.max()
    return np.zeros_like(values) if high <= low else (values - low) / (high - low)
