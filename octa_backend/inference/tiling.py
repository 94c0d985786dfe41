"""Logits of a scan of any size: whole where it fits, else overlapping tiles blended with Gaussian weights.

Shapes: B scans, C channels, K output channels, *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

TILE = {2: 1024, 3: 128}
"""Sides in pixels or voxels, by the number of spatial axes; a larger scan is cut, so that memory stays bounded. The
default network takes 2.2 GiB for 1024 x 1024 pixels in float32."""
STEP = 32
"""Sides of tiles of pictures are multiples of it, as networks halve them up to five times."""
OVERLAP = 0.25  # share of a tile
SIGMA = 0.125  # of the Gaussian, as a share of the tile (F. Isensee et al., nnU-Net, 2021)
SMALLEST_WEIGHT = 1e-4
"""Of a tile's corners, so that what they alone cover is not divided by 0."""


def predict_logits(
    network: Callable[[Tensor], Tensor],
    x_BC: Tensor,
    tile: int | Sequence[int] | None = None,
    overlap: float = OVERLAP,
) -> Tensor:
    """Run `network` over scans of any size.

    Args:
        network: maps (B, C, *spatial) to logits (B, K, *spatial).
        x_BC: float32, normalised.
        tile: the side that is computed at once, pixels, or one for each axis; None: at most `TILE`, and for pictures no
            more than as many tiles need.
        overlap: of neighbouring tiles at least, share of a tile, 0 to below 1. Where tiles do not fit evenly they
            overlap more.

    Returns:
        float32 logits, (B, K, *spatial).

    Raises:
        ValueError: the tile or the overlap makes no sense.
    """
    spatial = tuple(x_BC.shape[2:])
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap:g}, but tiles overlap by a share from 0 to below 1")
    size = _tile_size(spatial, _usual_tile(spatial, overlap) if tile is None else tile)
    if size == spatial:
        return network(x_BC).float()
    weight = _gaussian(size).to(x_BC.device)
    total: Tensor | None = None
    weights = x_BC.new_zeros(spatial)
    starts = [tile_starts(length, side, overlap) for length, side in zip(spatial, size, strict=True)]
    for corner in itertools.product(*starts):
        window = tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))
        logits = network(x_BC[:, :, *window]).float()
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], *spatial)
        total[:, :, *window] += logits * weight
        weights[window] += weight
    assert total is not None
    return total / weights


def tile_of(patch_shape: Sequence[int]) -> tuple[int, ...] | None:
    """The tile of a network that was trained on such samples: of volumes the sample, of pictures see `TILE`."""
    return tuple(patch_shape) if len(patch_shape) == 3 else None


def _usual_tile(spatial: Sequence[int], overlap: float) -> tuple[int, ...]:
    most = TILE[len(spatial)]
    if len(spatial) == 3:
        return (most,) * 3
    return tuple(even_side(length, most, overlap) for length in spatial)


def even_side(length: int, most: int, overlap: float) -> int:
    """The smallest side, a multiple of `STEP`, with which no more tiles are needed than with the largest one.

    Args:
        length: of the axis, pixels.
        most: the largest side, a multiple of `STEP`.
        overlap: of neighbours at least, share of a tile.
    """
    count = len(tile_starts(length, most, overlap))
    return min(most, math.ceil(length / (count - (count - 1) * overlap) / STEP) * STEP)


def _tile_size(spatial: Sequence[int], tile: int | Sequence[int]) -> tuple[int, ...]:
    sides = [tile] * len(spatial) if isinstance(tile, int) else tile
    if len(sides) != len(spatial) or min(sides) < 1:
        raise ValueError(f"tile is {tile}; give one side above 0, or one for each of {len(spatial)} axes")
    return tuple(min(side, length) for side, length in zip(sides, spatial, strict=True))


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles start along one axis: as few as there can be, evenly spread, from edge to edge.

    Args:
        length: of the axis, pixels.
        tile: side of a tile, pixels.
        overlap: of neighbours at least, share of a tile.
    """
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _gaussian(size: Sequence[int]) -> Tensor:
    """The weights of a tile's pixels, (*size): 1 in the middle, less towards the edges."""
    weight = torch.ones(())
    for side in size:
        axis = torch.exp(-((torch.arange(side) - (side - 1) / 2) ** 2) / (2 * (SIGMA * side) ** 2))
        weight = weight[..., None] * axis
    return weight.clamp_min(SMALLEST_WEIGHT)


def logit_slabs(
    network: Callable[[Tensor], Tensor], x_1C: Tensor, tile: Sequence[int], overlap: float = OVERLAP
) -> Iterator[Tensor]:
    """The logits of `predict_logits` for one volume, slab by slab along D, so that only the tiles' depth is in memory.

    Args:
        network, overlap: as there.
        x_1C: float32, (1, C, D, H, W), normalised.
        tile: the longest sides that are computed at once.

    Yields:
        float32 logits, (1, K, d, H, W); the slabs are complete, and d adds up to D.
    """
    spatial = tuple(x_1C.shape[2:])
    size = _tile_size(spatial, tile)
    if size == spatial:
        yield network(x_1C).float()
        return
    weight = _gaussian(size).to(x_1C.device)
    depths, *across = (tile_starts(length, side, overlap) for length, side in zip(spatial, size, strict=True))
    total: Tensor | None = None
    weights = x_1C.new_zeros(size[0], *spatial[1:])
    for start, after in zip(depths, [*depths[1:], spatial[0]], strict=True):
        for row, column in itertools.product(*across):
            window = (slice(row, row + size[1]), slice(column, column + size[2]))
            logits = network(x_1C[:, :, start : start + size[0], *window]).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], *weights.shape)
            total[..., *window] += logits * weight
            weights[:, *window] += weight
        assert total is not None
        yield total[:, :, : after - start] / weights[: after - start]
        total, weights = (_moved_on(one, after - start) for one in (total, weights))


def _moved_on(values: Tensor, planes: int) -> Tensor:
    """(…, d, H, W) without its first planes, and as many empty ones behind."""
    moved = torch.zeros_like(values)
    moved[..., : values.shape[-3] - planes, :, :] = values[..., planes:, :, :]
    return moved
