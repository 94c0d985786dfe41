"""Reading one volume or one volume's mask: NIfTI (.nii, .nii.gz) or a TIFF stack, judged by its header first."""

# Shapes: C channels, D x H x W voxels (see `volume_geometry` for what the axes mean).

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from octa_backend.data import tiff_stacks
from octa_backend.data.layouts import NIFTI_ENDINGS
from octa_backend.data.volume_geometry import VolumeGeometry, stack_geometry, to_canonical
from octa_backend.errors import ScanTooLarge, UnreadableScan

if TYPE_CHECKING:  # nibabel is imported with the first volume, not with the server
    from octa_backend.data.nifti import NiftiFacts

STACK_ENDINGS = (".tif", ".tiff")

MIN_SIDE_VOXELS = 16
"""Of the two longer sides, as of a picture."""

MIN_SLICES = 2
MAX_CHANNELS = 16
"""More than any set of modalities has; a longer fourth axis is time."""

MOST_STEP = 0.1
"""Programs that write the numbers 0, 1, 2 of a mask as fractions of a coarser scale than this did not write a mask."""

Source = BinaryIO | Path | bytes
"""A file, an open one, or the content of one."""


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """What a file says about its volume before it is decoded.

    Attributes:
        shape: (D, H, W).
        channels: 1, or the length of a fourth axis.
        spacing_mm: (D, H, W), side of a voxel; 1 each where the file knows none.
        affine: of the file, 4 x 4; the identity where the file knows none.
        orientation: where the file's axes point: "RAS", "LPS", …; "" where the file does not know.
        dtype: name of the stored numbers' kind.
        format: "NIfTI" or "TIFF".
        unit_mm: the affine's unit of length, mm.
    """

    shape: tuple[int, int, int]
    channels: int
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    orientation: str
    dtype: str
    format: str
    unit_mm: float = 1.0

    @property
    def voxels(self) -> int:
        """Of one channel."""
        return math.prod(self.shape)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the volume as `read_volume` returns it, at most."""
        return self.voxels * self.channels * {"uint8": 1, "bool": 1, "uint16": 2}.get(self.dtype, 4)

    @property
    def size(self) -> str:
        """Slices, rows and columns in words: "35×51×35"."""
        return "×".join(str(length) for length in self.shape)


@dataclass(frozen=True, slots=True)
class Volume:
    """A decoded volume.

    Attributes:
        values: (D, H, W), or (C, D, H, W) of an image; see `read_volume` and `read_volume_mask` for dtypes.
        affine: 4 x 4, indices (x, y, z) of `values` (the last axis is x) to mm, whatever the file's unit is.
        spacing_mm: (D, H, W).
        geometry: how to bring a mask back to the file's axes.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    geometry: VolumeGeometry


def read_volume_header(source: Source, name: str) -> VolumeHeader:
    """Read what a file says about its volume, without decoding it.

    Raises:
        UnreadableScan: neither NIfTI nor TIFF, damaged in front, or not of three axes (a fourth one counts channels).
    """
    from octa_backend.data import nifti  # noqa: PLC0415 - imports nibabel

    with _opened(source) as file:
        if is_nifti(name):
            return _header_of(nifti.read_facts(file, name), name)
        facts = tiff_stacks.read_facts(file, name)
    return VolumeHeader(facts.shape, 1, (1.0, 1.0, 1.0), np.eye(4), "", facts.dtype.name, "TIFF")


def read_volume(source: Source, name: str, max_voxels: int, *, channels_allowed: bool = False) -> Volume:
    """Decode one image.

    Args:
        source: the file.
        name: for messages, and by its ending for the format.
        max_voxels: the most to decode, channels included.
        channels_allowed: whether a fourth axis may hold channels (modalities).

    Returns:
        values (C, D, H, W); uint8, uint16 where whole numbers fit, else float32.

    Raises:
        UnreadableScan: not a volume, damaged, cut off, too small, of time points, or with values that are not finite.
        ScanTooLarge: more than `max_voxels`.
    """
    values, volume, _ = _decoded(source, name, max_voxels, channels_allowed=channels_allowed)
    return Volume(_image_values(values, name), volume.affine, volume.spacing_mm, volume.geometry)


def read_volume_mask(source: Source, name: str, max_voxels: int) -> Volume:
    """Decode one mask; real numbers are taken where all of them are whole.

    Returns:
        values (D, H, W), whole numbers: uint8, uint16 or int64.

    Raises:
        UnreadableScan: as `read_volume`; also for fractions.
        ScanTooLarge: more than `max_voxels`.
    """
    values, volume, step = _decoded(source, name, max_voxels, channels_allowed=False)
    return Volume(_mask_values(values[0], name, step), volume.affine, volume.spacing_mm, volume.geometry)


def check_header(header: VolumeHeader, name: str, max_voxels: int, *, channels_allowed: bool = False) -> None:
    """Refuse what is no volume, or too large a one, before a voxel is decoded.

    Raises:
        UnreadableScan: a picture, too small, or of time points or channels where there may be none.
        ScanTooLarge: more than `max_voxels`.
    """
    if header.channels > 1 and not channels_allowed:
        raise UnreadableScan(
            f"{name} has a fourth axis of {header.channels} (time points or channels); save one volume per file: "
            "modalities as NAME_0000.nii.gz, NAME_0001.nii.gz, …"
        )
    if header.channels > MAX_CHANNELS:
        raise UnreadableScan(
            f"{name} has a fourth axis of {header.channels}; that many are time points: at most {MAX_CHANNELS} channels"
        )
    if min(header.shape) < MIN_SLICES:
        raise UnreadableScan(f"{name} is {header.size}, a single slice; send it as a 2-D picture (PNG or TIFF)")
    if sorted(header.shape)[1] < MIN_SIDE_VOXELS:
        raise UnreadableScan(
            f"{name} is {header.size}; the two longer sides need at least {MIN_SIDE_VOXELS} voxels each"
        )
    if header.voxels * header.channels > max_voxels:
        of = f" of {header.channels} channels" if header.channels > 1 else ""
        raise ScanTooLarge(f"{name} is {header.size}{of}, {max_voxels:,} voxels are allowed; send a part of it")


def is_nifti(name: str) -> bool:
    """Whether a file's name says that it is NIfTI."""
    return name.lower().endswith(NIFTI_ENDINGS)


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        yield source


def _header_of(facts: NiftiFacts, name: str) -> VolumeHeader:
    shape = facts.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3:
        found = "×".join(map(str, shape))
        raise UnreadableScan(f"{name} is {found}, a single slice; send it as a 2-D picture (PNG or TIFF)")
    if len(shape) > 4:
        raise UnreadableScan(f"{name} has {len(shape)} axes, {'×'.join(map(str, shape))}; a volume has three")
    geometry = VolumeGeometry(shape[:3], tuple(map(tuple, facts.affine.tolist())), facts.orientation)
    return VolumeHeader(
        shape=_three(geometry.canonical_shape),
        channels=shape[3] if len(shape) == 4 else 1,
        spacing_mm=_canonical_spacing(facts),
        affine=facts.affine,
        orientation=facts.orientation,
        dtype="float32" if facts.scale is not None else facts.dtype.name,
        format="NIfTI",
        unit_mm=facts.unit_mm,
    )


def _canonical_spacing(facts: NiftiFacts) -> tuple[float, float, float]:
    """Sides of a voxel in the order D, H, W."""
    place = {letter: at for at, letter in enumerate(facts.orientation)}
    along = [next(place[letter] for letter in pair if letter in place) for pair in ("SI", "AP", "RL")]
    return _three([facts.spacing_mm[at] for at in along])


def _three(values: Any) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def _decoded(
    source: Source, name: str, max_voxels: int, *, channels_allowed: bool
) -> tuple[NDArray[Any], Volume, float | None]:
    """The numbers of a file, (C, D, H, W); the volume of the first channel; and their `NiftiFacts.step`."""
    from octa_backend.data import nifti  # noqa: PLC0415 - imports nibabel

    with _opened(source) as file:
        header = read_volume_header(file, name)
        check_header(header, name, max_voxels, channels_allowed=channels_allowed)
        step = None
        if header.format == "TIFF":
            values = tiff_stacks.read_values(file, name)
            affine, geometry = np.eye(4), stack_geometry(values.shape)
        else:
            stored, facts = nifti.read_values(file, name)
            stored = stored.reshape(stored.shape[:3] if header.channels == 1 else stored.shape[:4])
            values, affine, geometry = to_canonical(stored, facts.affine)
            affine[:3] *= facts.unit_mm
            step = facts.step
    values = values if values.ndim == 4 else values[np.newaxis]
    return values, Volume(values[0], affine, header.spacing_mm, geometry), step


def _image_values(values: NDArray[Any], name: str) -> NDArray[Any]:
    """uint8, uint16 where whole numbers fit, else float32; native byte order."""
    if values.dtype.kind in "bui":
        if values.dtype.itemsize == 1 and values.dtype.kind in "bu":
            return values.astype(np.uint8, copy=False)
        if values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max:
            return values.astype(np.uint16)
        return values.astype(np.float32)
    with np.errstate(over="ignore"):
        real = values.astype(np.float32)
    if not np.isfinite(real).all():
        raise UnreadableScan(f"{name} holds values that are not finite (NaN or infinity)")
    return real


def _mask_values(values: NDArray[Any], name: str, step: float | None) -> NDArray[Any]:
    """Whole numbers; those of a file with a scale may lie beside them by the half step that they were rounded by."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise UnreadableScan(f"mask {name} holds values that are not finite (NaN or infinity)")
        whole = np.rint(values)
        allowed = 0.0 if step is None or step > MOST_STEP else 0.51 * step + 1e-6 * float(np.abs(whole).max())
        if (np.abs(values - whole) > allowed).any():
            raise UnreadableScan(f"mask {name} holds fractions; a mask holds whole numbers")
        numbers: NDArray[np.int64] = whole.astype(np.int64)
        return numbers
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        return values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16, copy=False)
    return values.astype(np.int64)
