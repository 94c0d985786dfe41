"""Logits of a scan of any size: whole where it fits, else overlapping tiles blended with Gaussian weights.

Shapes: B scans, C channels, K output channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 768  # pixels; a larger scan is cut, so that memory stays bounded
OVERLAP = 0.25  # share of a tile
SIGMA = 0.125  # of the Gaussian, as a share of the tile (F. Isensee et al., nnU-Net, 2021)


def predict_logits(network: Callable[[Tensor], Tensor], x_BCHW: Tensor, tile: int = TILE) -> Tensor:
    """Run `network` over scans of any size.

    Args:
        network: maps (B, C, H, W) to logits (B, K, H, W).
        x_BCHW: float32, in 0..1.
        tile: the longest side in pixels that is computed at once.

    Returns:
        float32 logits, (B, K, H, W).
    """
    height, width = x_BCHW.shape[-2:]
    if height <= tile and width <= tile:
        return network(x_BCHW).float()
    size = (min(tile, height), min(tile, width))
    weight_HW = _gaussian(size).to(x_BCHW.device)
    total: Tensor | None = None
    weights = x_BCHW.new_zeros(height, width)
    for top in _starts(height, size[0]):
        for left in _starts(width, size[1]):
            window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
            logits = network(x_BCHW[window]).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[window] += logits * weight_HW
            weights[window] += weight_HW
    assert total is not None
    return total / weights


def _starts(length: int, tile: int) -> list[int]:
    """Evenly spread tile positions with at least `OVERLAP` between neighbours."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // int(tile * (1 - OVERLAP))) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _gaussian(size: tuple[int, int]) -> Tensor:
    rows, columns = (
        torch.exp(-((torch.arange(side) - (side - 1) / 2) ** 2) / (2 * (SIGMA * side) ** 2)) for side in size
    )
    return (rows[:, None] * columns[None, :]).clamp_min(1e-4)
