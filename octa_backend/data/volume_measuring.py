"""How the numbers of volumes and their masks are measured."""

# Shapes: C channels, D x H x W voxels.

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.masks import MAX_CLASSES, MaskValues
from octa_backend.data.volume_geometry import Box
from octa_backend.data.volume_statistics import VolumeImageStatistics, VolumeMaskStatistics


def content_box(there_DHW: NDArray[np.bool_]) -> Box | None:
    """The smallest box around all that is True; None where nothing is."""
    box = []
    for axis in range(3):
        planes = np.flatnonzero(there_DHW.any(axis=tuple(other for other in range(3) if other != axis)))
        if not planes.size:
            return None
        box.append((int(planes[0]), int(planes[-1]) + 1))
    return tuple(box)


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box around others; empty where there are none."""
    axes = zip(*boxes, strict=True)
    return tuple((min(first for first, _ in ends), max(after for _, after in ends)) for ends in axes)


def cut_out(values: NDArray[Any], box: Box) -> NDArray[Any]:
    """The part of a (..., D, H, W) array that lies in a box; a view."""
    slices, rows, columns = (slice(first, after) for first, after in box)
    return values[..., slices, rows, columns]


def measure_image(image_CDHW: NDArray[Any], spacing_mm: tuple[float, ...]) -> VolumeImageStatistics:
    """The numbers of one volume."""
    content = content_box((image_CDHW != 0).any(axis=0))
    return VolumeImageStatistics(
        shape=image_CDHW.shape[1:],
        channels=len(image_CDHW),
        dtype=image_CDHW.dtype.name,
        spacing_mm=spacing_mm,
        digest=_digest(image_CDHW),
        low=float(image_CDHW.min()),
        high=float(image_CDHW.max()),
        typical=tuple(_typical(channel) for channel in image_CDHW),
        content=content,
        constant_planes=(0, 0, 0) if content is None else _constant_planes(cut_out(image_CDHW, content)),
    )


def measure_mask(mask_DHW: NDArray[Any], image_content: Box | None) -> VolumeMaskStatistics:
    """The numbers of one mask of whole numbers, of its image's size."""
    there = mask_DHW != 0
    values, areas = _areas(mask_DHW)
    known = MaskValues(len(values), tuple(values[: MAX_CLASSES + 1].tolist()), int(values[-1]))
    counts = tuple(zip(values.tolist(), areas.tolist(), strict=True)) if known.count <= MAX_CLASSES else ()
    return VolumeMaskStatistics(
        digest=_digest(mask_DHW),
        values=known,
        counts=counts,
        foreground_fraction=float(np.count_nonzero(there) / there.size),
        content=content_box(there),
        border_share=_border_share(there, image_content),
    )


def _digest(values: NDArray[Any]) -> str:
    digest = hashlib.blake2b(f"{values.dtype.name} {values.shape} ".encode(), digest_size=16)
    for plane in values.reshape(-1, *values.shape[-2:]):
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _typical(channel_DHW: NDArray[Any]) -> float:
    inside = channel_DHW[channel_DHW != 0]
    return float(np.median(inside)) if inside.size else 0.0


def _constant_planes(image_CDHW: NDArray[Any]) -> tuple[int, ...]:
    """For each axis the planes in which no channel changes."""
    counts = []
    for axis in range(1, 4):
        others = tuple(other for other in range(1, 4) if other != axis)
        flat = image_CDHW.min(axis=others) == image_CDHW.max(axis=others)
        counts.append(int(np.count_nonzero(flat.all(axis=0))))
    return tuple(counts)


def _areas(mask_DHW: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The different values in rising order, and how many voxels have each."""
    if mask_DHW.dtype.kind == "u":  # counting is many times as fast as sorting
        found = np.bincount(mask_DHW.reshape(-1))
        values = np.flatnonzero(found)
        return values, found[values]
    different, areas = np.unique(mask_DHW, return_counts=True)
    return different, areas


def _border_share(there_DHW: NDArray[np.bool_], image_content: Box | None) -> tuple[tuple[float, float], ...]:
    shares = []
    for axis in range(3):
        planes = np.count_nonzero(there_DHW, axis=tuple(other for other in range(3) if other != axis))
        most = int(planes.max())
        if image_content is None or most == 0:
            shares.append((0.0, 0.0))
            continue
        first, after = image_content[axis]
        shares.append((float(planes[: first + 1].max() / most), float(planes[after - 1 :].max() / most)))
    return tuple(shares)
