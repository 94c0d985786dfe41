"""Synthetic vessel volumes with exact masks: trees of tubes that branch and become thinner, in speckle.

A tree grows from the first slice on. Lengths are voxels of the finest side, so that a volume with thicker slices shows
the same tree with fewer of them.
"""

# Shapes: D x H x W voxels (z, y, x), as everywhere.

from __future__ import annotations

import uuid
import zipfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from octa_backend.data.nifti import nifti_gz
from octa_backend.data.repair import add_file
from octa_backend.storage.files import move, remove

SMALLEST_SIZE = 24
FINEST_RADIUS = 1.0
THICKEST_RADIUS = 0.075  # of a trunk, as a share of the volume's side
TREES = 3
BRANCHING = 0.09  # chance to divide, per step
SHRINKING = 0.992  # of the radius, per step
MURRAY = 2 ** (-1 / 3)  # radius of each of two equal branches: the cubes of the radii add up (C. D. Murray, 1926)
WANDERING = 0.16  # how much a direction changes per step
SPECKLE_LOOKS = 4.0  # fewer make coarser grain
VESSEL_GREY, TISSUE_GREY, FARTHEST_TIPS = 900.0, 300.0, 400

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SyntheticVolume:
    """An image, uint16 (D, H, W), and the vessels drawn in it, bool (D, H, W)."""

    image: NDArray[np.uint16]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tip:
    """Where a vessel grows: place and direction (z, y, x), and its radius there."""

    place: Vector
    direction: Vector
    radius: float


def make_volume(size: int, rng: np.random.Generator, slice_thickness: int = 1) -> SyntheticVolume:
    """Draw one volume.

    Args:
        size: rows and columns.
        rng: decides everything.
        slice_thickness: of a voxel along D, in voxels along H; there are `size // slice_thickness` slices.
    """
    if size < SMALLEST_SIZE or not 1 <= slice_thickness <= size // 2:
        raise ValueError(
            f"a volume of side {size} with slices {slice_thickness} thick; sides are {SMALLEST_SIZE} or more, and "
            "there are 2 slices or more"
        )
    fine_DHW = _grown(size, rng)
    depth = size // slice_thickness
    share_DHW = fine_DHW[: depth * slice_thickness].reshape(depth, slice_thickness, size, size).mean(axis=1)
    return SyntheticVolume(_speckled(share_DHW.astype(np.float32), rng), share_DHW >= 0.5)


def write_volume_zip(path: Path, count: int, *, size: int, seed: int = 0, slice_thickness: int = 1) -> None:
    """Write `count` volumes as `imagesTr/vessels_001.nii.gz`, `labelsTr/vessels_001.nii.gz`, …

    Volume i depends on (seed, i) only; the same call gives the same bytes. The archive appears complete or not at all.
    """
    if count < 1:
        raise ValueError(f"count is {count}, but an archive needs at least 1 volume")
    affine = np.diag([0.1, 0.1, 0.1 * slice_thickness, 1.0])
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with zipfile.ZipFile(part, "x") as archive:
            for index in range(count):
                volume = make_volume(size, np.random.default_rng([seed, index]), slice_thickness)
                name = f"vessels_{index + 1:03d}.nii.gz"
                add_file(archive, f"imagesTr/{name}", nifti_gz(volume.image.transpose(2, 1, 0), affine))
                mask_XYZ = volume.mask.astype(np.uint8).transpose(2, 1, 0)
                add_file(archive, f"labelsTr/{name}", nifti_gz(mask_XYZ, affine))
        move(part, path)
    finally:
        remove(part)


def _grown(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Trees in a cube."""
    vessels_DHW = np.zeros((size, size, size), dtype=np.bool_)
    tips = deque(_trunk(size, rng) for _ in range(TREES))
    for _ in range(FARTHEST_TIPS):
        if not tips:
            break
        _grow(tips.popleft(), vessels_DHW, tips, rng)
    return vessels_DHW


def _trunk(size: int, rng: np.random.Generator) -> Tip:
    place = np.array([0.0, *rng.uniform(0.25 * size, 0.75 * size, 2)])
    return Tip(place, _unit(np.array([1.0, *rng.normal(0, 0.3, 2)])), max(1.5, THICKEST_RADIUS * size))


def _grow(tip: Tip, vessels_DHW: NDArray[np.bool_], tips: deque[Tip], rng: np.random.Generator) -> None:
    """Draw a vessel until it leaves the volume, becomes too thin, or divides."""
    place, direction, radius = tip.place, tip.direction, tip.radius
    size = len(vessels_DHW)
    while radius >= FINEST_RADIUS and (place >= 0).all() and (place < size).all():
        _draw(vessels_DHW, place, radius)
        direction = _unit(direction + rng.normal(0, WANDERING, 3))
        place = place + direction
        radius *= SHRINKING
        if rng.random() < BRANCHING and radius * MURRAY >= FINEST_RADIUS:
            aside = _unit(np.cross(direction, rng.normal(0, 1, 3)))
            tips.extend(Tip(place, _unit(direction + turn * aside), radius * MURRAY) for turn in (0.7, -0.7))
            return


def _draw(vessels_DHW: NDArray[np.bool_], place: Vector, radius: float) -> None:
    """A ball."""
    first = np.maximum(0, np.floor(place - radius)).astype(int)
    after = np.minimum(len(vessels_DHW), np.ceil(place + radius).astype(int) + 1)
    z, y, x = np.ogrid[tuple(slice(low, high) for low, high in zip(first, after, strict=True))]
    inside = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2 <= radius**2
    vessels_DHW[tuple(slice(low, high) for low, high in zip(first, after, strict=True))] |= inside


def _speckled(share_DHW: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Blurred as by an optic, darker with depth, and multiplied with grain."""
    soft = ndimage.gaussian_filter(share_DHW, 0.6)
    depth = np.linspace(1.0, 0.7, len(soft), dtype=np.float32)[::-1, None, None]
    grain = rng.gamma(SPECKLE_LOOKS, 1 / SPECKLE_LOOKS, soft.shape)
    drawn: NDArray[np.uint16] = np.rint((TISSUE_GREY + (VESSEL_GREY - TISSUE_GREY) * soft) * depth * grain).astype(
        np.uint16
    )
    return drawn


def _unit(vector: Vector) -> Vector:
    length: Vector = vector / np.linalg.norm(vector)
    return length
