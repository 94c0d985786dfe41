"""How volumes lie in space: the one convention of the prepared arrays, and the way back to a file's own.

Arrays are D x H x W: slices, rows, columns. Of a file that knows where it lies (NIfTI) that is z, y, x of the patient,
and indices rise towards the head, the front and the right (nibabel's closest canonical orientation, RAS+, with its axes
in reverse order). A file that does not know (a TIFF stack) keeps its order: pages, rows, columns. Affines stay as NIfTI
has them: they map indices (x, y, z), not (z, y, x), to millimetres.
"""

# Shapes: C channels, D x H x W voxels of our convention, X x Y x Z voxels in the order of a NIfTI file.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[tuple[int, int], ...]
"""First index and the one after the last, for D, H and W."""

Affine = tuple[tuple[float, ...], ...]
"""4 x 4, row by row."""

_AXES = {"R": (0, False), "L": (0, True), "A": (1, False), "P": (1, True), "S": (2, False), "I": (2, True)}
"""Which canonical axis (x, y, z) a file's axis is, and whether it runs the other way."""


@dataclass(frozen=True, slots=True)
class VolumeGeometry:
    """What became of a file's axes, so that a mask can be brought back to them.

    Attributes:
        original_shape: of the file: (X, Y, Z), or (D, H, W) of a TIFF stack.
        affine: of the file, 4 x 4, in the file's unit of length; the identity where the file knows of none.
        orientation: where the file's axes point: "RAS", "LPS", …; "" of a file that does not know.
        resampled_shape: (D, H, W) after `resampling`, before any crop; None where voxels kept their size.
        resampled_spacing_mm: (D, H, W), likewise.
        crop_box: what was kept of the (resampled) volume; None where all of it was.
    """

    original_shape: tuple[int, ...]
    affine: Affine
    orientation: str
    resampled_shape: tuple[int, ...] | None = None
    resampled_spacing_mm: tuple[float, ...] | None = None
    crop_box: Box | None = None

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        """(D, H, W) before resampling and crop."""
        if not self.orientation:
            return self.original_shape
        along = {_AXES[letter][0]: length for letter, length in zip(self.orientation, self.original_shape, strict=True)}
        return along[2], along[1], along[0]

    def cropped(self, box: Box) -> VolumeGeometry:
        """The same volume, of which only a box was kept."""
        return replace(self, crop_box=box)

    def resampled(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> VolumeGeometry:
        """The same volume, with voxels of another size."""
        return replace(self, resampled_shape=tuple(shape), resampled_spacing_mm=tuple(spacing_mm))

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> VolumeGeometry:
        """What `dataclasses.asdict` made, read back from JSON."""
        shape, spacing, box = (facts[name] for name in ("resampled_shape", "resampled_spacing_mm", "crop_box"))
        return cls(
            original_shape=tuple(facts["original_shape"]),
            affine=as_affine(facts["affine"]),
            orientation=facts["orientation"],
            resampled_shape=None if shape is None else tuple(shape),
            resampled_spacing_mm=None if spacing is None else tuple(spacing),
            crop_box=None if box is None else tuple((first, after) for first, after in box),
        )


def as_affine(matrix: NDArray[Any] | Sequence[Sequence[float]]) -> Affine:
    """A 4 x 4 matrix as plain numbers."""
    return tuple(tuple(float(number) for number in row) for row in matrix)


def stack_geometry(shape: Sequence[int]) -> VolumeGeometry:
    """Of a (D, H, W) file that does not know where it lies."""
    return VolumeGeometry(tuple(shape), as_affine(np.eye(4)), "")


def orientation_of(affine: NDArray[np.float64]) -> str:
    """Where the axes of a file point: "RAS", "LPS", …

    Raises:
        ValueError: the affine leaves out a direction, or is not of finite numbers.
    """
    from nibabel.orientations import aff2axcodes  # noqa: PLC0415 - a third of a second

    sides = np.linalg.norm(affine[:3, :3], axis=0)
    codes: tuple[Any, ...] = aff2axcodes(affine) if np.isfinite(affine).all() and sides.all() else (None,)
    if None in codes:
        raise ValueError("its affine matrix is not one of a volume")
    return "".join(codes)


def canonical_affine(affine: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """The affine of a volume after `to_canonical`.

    Args:
        affine: of the file, 4 x 4.
        shape: (D, H, W), of the canonical volume.
    """
    to_file = np.eye(4)
    to_file[:3] = 0
    for axis, letter in enumerate(orientation_of(affine)):
        canonical, is_reversed = _AXES[letter]
        to_file[axis, canonical] = -1 if is_reversed else 1
        to_file[axis, 3] = shape[::-1][canonical] - 1 if is_reversed else 0
    moved: NDArray[np.float64] = affine @ to_file
    return moved


def to_canonical(
    values_XYZ: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], VolumeGeometry]:
    """Bring a volume from a NIfTI file's axes to our convention.

    Args:
        values_XYZ: (X, Y, Z), or (X, Y, Z, C) with channels behind.
        affine: of the file, 4 x 4.

    Returns:
        values (D, H, W) or (C, D, H, W), a view where that is possible; the affine (4 x 4) of its indices (x, y, z);
        and what is needed to go back.

    Raises:
        ValueError: see `orientation_of`.
    """
    orientation = orientation_of(affine)
    geometry = VolumeGeometry(tuple(values_XYZ.shape[:3]), as_affine(affine), orientation)
    places = [_AXES[letter] for letter in orientation]
    turned = np.flip(values_XYZ, [axis for axis, (_, is_reversed) in enumerate(places) if is_reversed])
    values = turned.transpose(*range(3, turned.ndim), *_order(orientation))
    return values, canonical_affine(affine, values.shape[-3:]), geometry


def _order(orientation: str) -> list[int]:
    """The file's axes in the order D, H, W."""
    canonical = [_AXES[letter][0] for letter in orientation]
    return [canonical.index(axis) for axis in (2, 1, 0)]


def restore(values_DHW: NDArray[Any], geometry: VolumeGeometry, fill: float = 0) -> NDArray[Any]:
    """Bring an array of our convention back to its file's grid: crop, resampling and axes are undone in turn.

    Args:
        values_DHW: (D, H, W), as `crop_box` and `resampled_shape` left it: a mask of whole numbers or booleans, or
            probabilities. Whole numbers take the nearest voxel's, real ones are interpolated.
        geometry: of the volume.
        fill: value outside of the crop.

    Returns:
        (X, Y, Z) of the file, or (D, H, W) of a TIFF stack; the dtype of `values_DHW`.

    Raises:
        ValueError: the array has not the size that the geometry says.
    """
    whole_DHW = _uncropped(values_DHW, geometry, fill)
    if geometry.resampled_shape is not None:
        whole_DHW = resized(whole_DHW, geometry.canonical_shape, order=0 if values_DHW.dtype.kind in "biu" else 1)
    if not geometry.orientation:
        return whole_DHW
    reversed_axes = [axis for axis, letter in enumerate(geometry.orientation) if _AXES[letter][1]]
    return np.flip(whole_DHW.transpose(np.argsort(_order(geometry.orientation))), reversed_axes)


def resized(values_DHW: NDArray[Any], shape: Sequence[int], order: int) -> NDArray[Any]:
    """Spread a volume over another number of voxels; the outer faces stay where they are.

    Args:
        values_DHW: any numbers.
        shape: (D, H, W) that is wanted.
        order: of the spline: 0 takes the nearest voxel, 1 is linear, 3 cubic.

    Returns:
        of `shape`; the dtype of `values_DHW`.
    """
    if values_DHW.shape == tuple(shape):
        return values_DHW
    if order == 0:
        places = (
            np.minimum(((np.arange(wanted) + 0.5) * length / wanted).astype(int), length - 1)
            for wanted, length in zip(shape, values_DHW.shape, strict=True)
        )
        return values_DHW[np.ix_(*places)]
    from scipy import ndimage  # noqa: PLC0415 - half a second, and few need it

    factors = [wanted / length for wanted, length in zip(shape, values_DHW.shape, strict=True)]
    spread: NDArray[Any] = ndimage.zoom(values_DHW, factors, order=order, mode="nearest", grid_mode=True)
    assert spread.shape == tuple(shape)
    return spread


def _uncropped(values_DHW: NDArray[Any], geometry: VolumeGeometry, fill: float) -> NDArray[Any]:
    whole = geometry.resampled_shape or geometry.canonical_shape
    box = geometry.crop_box or tuple((0, length) for length in whole)
    if values_DHW.shape != tuple(after - first for first, after in box):
        raise ValueError(f"the array is {values_DHW.shape}, its geometry says {box} of {whole}")
    if geometry.crop_box is None:
        return values_DHW
    filled: NDArray[Any] = np.full(whole, fill, dtype=values_DHW.dtype)
    filled[tuple(slice(first, after) for first, after in box)] = values_DHW
    return filled
