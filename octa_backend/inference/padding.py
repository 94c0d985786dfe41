"""Sides that a graph of several sizes can take.

Shapes: B scans, C channels, H x W pixels, of volumes D x H x W voxels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad_sides(x_BCHW: Tensor, multiple: int, smallest: int) -> Tensor:
    """Repeat the border at the end of each side up to the next multiple of `multiple`, and to `smallest` at least."""
    sides = x_BCHW.shape[2:]
    missing = [max(smallest, -(-side // multiple) * multiple) - side for side in sides]
    if any(missing):
        # `F.pad` begins with the last axis.
        return F.pad(x_BCHW, [end for more in reversed(missing) for end in (0, more)], mode="replicate")
    return x_BCHW
