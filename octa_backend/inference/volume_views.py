"""What a network sees of a volume whose voxels have another size than those of its training, and the way back.

Forth as the remedy `resample_spacing` brings a dataset to one size: cubic splines. Back linearly, and the probabilities
rather than the mask: an outline then runs between voxels instead of following the steps of the coarser grid.

Shapes: C channels, D x H x W voxels, d of D slices, K classes with background.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.data.resampling import resample_values, same_spacing, target_shape
from octa_backend.data.volume_case import content_of
from octa_backend.data.volume_geometry import Box
from octa_backend.data.volume_measuring import cut_out
from octa_backend.errors import ScanTooLarge

Places = tuple[NDArray[np.float64], ...]
"""For D, H and W, where the centre of each voxel that is answered for lies in the image of a `View`, in its voxels."""

SLAB = 16
"""Slices that are answered for together, at most."""


@dataclass(frozen=True, slots=True)
class View:
    """A volume as a network shall see it.

    Attributes:
        image: (C, D, H, W).
        places: None where it is answered for these voxels themselves.
    """

    image: NDArray[np.generic]
    places: Places | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W) that is answered for."""
        return self.image.shape[1:] if self.places is None else tuple(map(len, self.places))


def whole_view(image: NDArray[np.generic], spacing_mm: Sequence[float], wanted_mm: Sequence[float]) -> View:
    """A volume (C, D, H, W) with voxels of the wanted size; as it is where they have it, or none is wanted."""
    if not wanted_mm or same_spacing(spacing_mm, wanted_mm):
        return View(image)
    resampled = resample_values(image, spacing_mm, wanted_mm)
    sides = zip(image.shape[1:], resampled.shape[1:], strict=True)
    return View(resampled, tuple(_places((0, length), length, (0, seen), seen) for length, seen in sides))


def view_of(image: NDArray[np.generic], box: Box, spacing_mm: Sequence[float], wanted_mm: Sequence[float]) -> View:
    """What is not 0 of a volume, as a network was trained on it.

    A dataset is resampled first and cropped then, and so is this volume: a spline looks beyond the box.

    Args:
        image: (C, D, H, W), all of it.
        box: what is answered for.
        spacing_mm: (D, H, W).
        wanted_mm: likewise, or nothing where voxels of any size are seen as they are.
    """
    view = whole_view(image, spacing_mm, wanted_mm)
    if view.places is None:
        return View(cut_out(view.image, box))
    shape = view.image.shape[1:]
    content = content_of(view.image) or tuple((0, length) for length in shape)
    sides = zip(box, image.shape[1:], content, shape, strict=True)
    return View(cut_out(view.image, content), tuple(_places(*side) for side in sides))


def require_room(
    name: str, shape: Sequence[int], spacing_mm: Sequence[float], wanted_mm: Sequence[float], max_voxels: int
) -> None:
    """Refuse a volume that has too many voxels of the size that a model wants.

    Args:
        name: of the case, for the message.
        shape: (C, D, H, W).
        spacing_mm, wanted_mm: see `view_of`.
        max_voxels: of all channels together.

    Raises:
        ScanTooLarge: it would have more.
    """
    if not wanted_mm or same_spacing(spacing_mm, wanted_mm):
        return
    seen = target_shape(shape[1:], spacing_mm, wanted_mm)
    if shape[0] * math.prod(seen) > max_voxels:
        raise ScanTooLarge(
            f"{name} is {_times(shape[1:])} voxels of {_times(spacing_mm)} mm; the model was trained on voxels of "
            f"{_times(wanted_mm)} mm, of which it would have {_times(seen)}, and {max_voxels:,} voxels are allowed; "
            "send a part of it"
        )


def interpolated(slabs_KdHW: Iterable[Tensor], places: Places) -> Iterator[Tensor]:
    """Bring what a network says of a view to the voxels that are answered for, linearly.

    Args:
        slabs_KdHW: float32, one after the other along D.
        places: of the view.

    Yields:
        float32, (K, d, H, W), `SLAB` slices at most. Beside the slab at hand one slice of the one before is in memory.
    """
    depths, rows, columns = places
    first, done = 0, 0  # of the slices at hand; of the answer
    before: Tensor | None = None
    for slab in slabs_KdHW:
        spread = _along(_along(slab, 2, rows), 3, columns)
        there = spread if before is None else torch.cat([before, spread], dim=1)
        ready = int(np.searchsorted(np.ceil(depths), first + there.shape[1]))
        for start in range(done, ready, SLAB):
            yield _along(there, 1, depths[start : min(start + SLAB, ready)] - first)
        before, first, done = there[:, -1:], first + there.shape[1] - 1, ready


def _places(kept: tuple[int, int], length: int, seen: tuple[int, int], seen_length: int) -> NDArray[np.float64]:
    """Of one axis: where the voxels `kept` of `length` lie among the voxels `seen` of `seen_length`, both ends alike.

    What lies outside takes the outermost voxel.
    """
    centres = (np.arange(*kept) + 0.5) * seen_length / length - 0.5
    return np.clip(centres, seen[0], seen[1] - 1) - seen[0]


def _along(values: Tensor, axis: int, places: NDArray[np.float64]) -> Tensor:
    """Values at places between the ones that there are."""
    lower = torch.from_numpy(places).floor().long()
    upper = (lower + 1).clamp(max=values.shape[axis] - 1)
    share = (torch.from_numpy(places) - lower).float().reshape(-1, *(1,) * (values.ndim - 1 - axis))
    return torch.lerp(values.index_select(axis, lower), values.index_select(axis, upper), share)


def _times(numbers: Sequence[float]) -> str:
    return "×".join(f"{number:g}" for number in numbers)
