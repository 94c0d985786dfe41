"""Scans of one number of channels for a model of another, or for a picture.

Shapes: C channels, *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


def match_channels(image: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Bring (C, H, W) to the model's channels: grey is repeated, colour becomes its luma."""
    if image.shape[0] == channels:
        return image
    if image.shape[0] == 1:
        return np.repeat(image, channels, axis=0)
    return np.tensordot(np.asarray(GREY_WEIGHTS, np.float32), image, axes=1)[None].astype(np.float32)


def shown_channels(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a picture shows of (C, *spatial): three channels as colours, else the first, such as one of modalities."""
    return image if image.shape[0] == 3 else image[:1]
