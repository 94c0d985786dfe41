"""How a network that follows the voxels is laid out: kernels, strides and channels of its levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The levels of an encoder from the finest, the bottleneck last.

    Attributes:
        kernels: side of each level's kernels along each axis, 1 or 3.
        strides: by how much a level is coarser than the one before it along each axis, 1 or 2; of the first 1.
        filters: channels of each level.
    """

    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    filters: tuple[int, ...]

    @property
    def multiple(self) -> tuple[int, ...]:
        """By how much the deepest level is smaller than the input, along each axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    @classmethod
    def even(cls, spatial_dims: int, filters: Sequence[int]) -> NetworkShape:
        """The usual one: every level but the first halves every axis, all kernels have side 3."""
        strides = ((1,) * spatial_dims, *((2,) * spatial_dims for _ in filters[1:]))
        return cls(((3,) * spatial_dims,) * len(filters), strides, tuple(filters))

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> NetworkShape | None:
        """The shape that a model's card holds; None where it holds none."""
        if stored is None:
            return None
        kernels, strides = (tuple(map(tuple, stored[name])) for name in ("kernels", "strides"))
        return cls(kernels, strides, tuple(stored["filters"]))
