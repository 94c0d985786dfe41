"""Sides that a graph of several sizes can take.

Shapes: B scans, C channels, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad_sides(x_BCHW: Tensor, multiple: int, smallest: int) -> Tensor:
    """Repeat the border at the end of H and W up to the next multiple of `multiple`, and to `smallest` at least."""
    height, width = (max(smallest, -(-side // multiple) * multiple) for side in x_BCHW.shape[2:])
    missing = (0, width - x_BCHW.shape[3], 0, height - x_BCHW.shape[2])
    return F.pad(x_BCHW, missing, mode="replicate") if any(missing) else x_BCHW
