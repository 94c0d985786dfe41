"""How a network for volumes is laid out: kernels and strides that follow the voxels and the training sample.

Source: F. Isensee et al., nnU-Net, Nature Methods 18, 2021 (arXiv:1904.08128), its rules for the network's topology.
"""

from __future__ import annotations

from collections.abc import Sequence

from octa_backend.models.network_shape import NetworkShape

LEAST_SIDE = 4
"""Voxels along an axis that the deepest level keeps; an axis is halved while it has twice as many."""
COARSE = 2.0
"""An axis with voxels so many times as long as the shortest ones is left alone until the others have caught up."""
LEAST_LEVELS = 3
"""nnU-Net's network, as MONAI has it, has no fewer; what is too small to be halved twice keeps its size there."""
MOST_LEVELS = 6
"""nnU-Net's own bound for a sample of 128 voxels a side; deeper levels see no more."""

WIDEST = 320
"""Channels, as nnU-Net's in 3-D."""
FIRST_FILTERS = {"unet_transformer": 16}
USUAL_FIRST, SMALL_FIRST = 32, 16
"""Channels of the finest level; the small ones are a third of the work, for a CPU. With 8, hippocampi came to a test
Dice of 0.83."""


def network_shape(model: str, shape: Sequence[int], spacing: Sequence[float], *, small: bool) -> NetworkShape:
    """Kernels, strides and channels of each level, for a sample of this shape.

    Args:
        model: name of the network.
        shape: voxels of a training sample along each axis.
        spacing: sides of a voxel along each axis; empty: all alike.
        small: whether the device is slow.
    """
    kernels, strides = topology(shape, spacing)
    missing = LEAST_LEVELS - len(strides)
    kernels, strides = kernels + kernels[-1:] * missing, strides + strides[:1] * missing
    first = FIRST_FILTERS.get(model, SMALL_FIRST if small else USUAL_FIRST)
    return NetworkShape(kernels, strides, tuple(min(WIDEST, first * 2**level) for level in range(len(strides))))


def topology(
    shape: Sequence[int], spacing: Sequence[float]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Kernels and strides of each level, the finest first.

    An axis is halved from level to level while it has voxels enough and its voxels are not much longer than the others'
    that can be halved. Its kernels have side 1 while its voxels are much longer than the shortest, and 3 from then on.
    """
    sides, lengths = list(shape), list(spacing or [1.0] * len(shape))
    wide = [False] * len(sides)
    kernels, strides = [], [(1,) * len(sides)]
    while True:
        wide = [was or length / min(lengths) < COARSE for was, length in zip(wide, lengths, strict=True)]
        kernels.append(tuple(3 if one else 1 for one in wide))
        halved = _halved(sides, lengths)
        if not any(halved) or len(kernels) == MOST_LEVELS:
            return tuple(kernels), tuple(strides)
        strides.append(tuple(2 if one else 1 for one in halved))
        sides = [-(-side // 2) if one else side for side, one in zip(sides, halved, strict=True)]
        lengths = [length * 2 if one else length for length, one in zip(lengths, halved, strict=True)]


def _halved(sides: Sequence[int], lengths: Sequence[float]) -> list[bool]:
    """Which axes are halved next."""
    able = [side >= 2 * LEAST_SIDE for side in sides]
    shortest = min((length for length, one in zip(lengths, able, strict=True) if one), default=0.0)
    return [one and length / shortest < COARSE for length, one in zip(lengths, able, strict=True)]


def fitting(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """The shape, its sides rounded up to multiples of what a network halves them by."""
    return tuple(-(-side // one) * one for side, one in zip(shape, halvings(shape, spacing), strict=True))


def halvings(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """By how much a network for samples of this shape makes each axis shorter."""
    _, strides = topology(shape, spacing)
    return NetworkShape(strides, strides, ()).multiple


def in_words(shape: NetworkShape) -> str:
    """What a plan says of a network's shape."""
    pooled = "×".join(map(str, shape.multiple))
    flat = sum(1 in kernel for kernel in shape.kernels)
    flat_words = f", {flat} of them with flat kernels" if flat else ""
    return (
        f"channels of the {len(shape.filters)} levels{flat_words}; sides become {pooled} times shorter, as voxels and "
        "the sample's size allow"
    )
