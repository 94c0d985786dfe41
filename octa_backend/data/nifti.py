"""NIfTI files: the header is judged before a voxel is read, and no more is unpacked than the header declares."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from octa_backend.data.volume_geometry import orientation_of
from octa_backend.errors import UnreadableScan

HEADER_BYTES = (348, 540)
"""Length of the header of NIfTI-1 and of NIfTI-2, which is the file's first number."""

PADDING_BYTES = 1024
"""So much may follow the voxels: some programs fill up blocks. More means that the header does not tell the truth."""

MOST_OFFSET_BYTES = 64 * 2**20
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, millimetre, micrometre
_UNITS = {1000.0: "meter", 1.0: "mm", 0.001: "micron"}
_SLOPE_OFFSET = 112  # byte of `scl_slope` in a NIfTI-1 header; `scl_inter` follows
_REFUSED_KINDS = {"c": "complex numbers", "V": "colours"}
_GZIP_FAULTS = (OSError, EOFError, zlib.error)
_HEADER_FAULTS = (HeaderDataError, ValueError, TypeError, KeyError, ArithmeticError)

Header = Any
"""`Nifti1Header` or `Nifti2Header`; nibabel has types in parts only."""


@dataclass(frozen=True, slots=True)
class NiftiFacts:
    """What the header of a NIfTI file says.

    Attributes:
        shape: of the file: (X, Y, Z), or (X, Y, Z, C).
        affine: 4 x 4, indices (x, y, z) to the file's unit of length.
        spacing_mm: (x, y, z).
        orientation: "RAS", "LPS", …
        dtype: of the stored numbers.
        unit_mm: the affine's unit of length, mm.
        scale: (slope, intercept) that make the values of the stored numbers; None where these are the values.
        data_offset: byte where the voxels begin.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, ...]
    orientation: str
    dtype: np.dtype[Any]
    unit_mm: float
    scale: tuple[float, float] | None
    data_offset: int

    @property
    def step(self) -> float | None:
        """Between two values that the scale can tell apart; None without a scale."""
        return None if self.scale is None else abs(self.scale[0])

    @property
    def data_bytes(self) -> int:
        """Of the voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_facts(file: BinaryIO, name: str) -> NiftiFacts:
    """Read a header; the file is left anywhere.

    Raises:
        UnreadableScan: not a NIfTI file, or its header makes no sense.
    """
    with _unpacked(file, name) as stream:
        return _facts(stream, name)


def read_values(file: BinaryIO, name: str) -> tuple[NDArray[Any], NiftiFacts]:
    """Read the voxels of a file whose header was judged; never unpacks more than the header declares.

    Returns:
        values (X, Y, Z) or (X, Y, Z, C), the stored numbers with their scale applied; and the header.

    Raises:
        UnreadableScan: as `read_facts`; also if there are fewer or more voxels than the header declares.
    """
    with _unpacked(file, name) as stream:
        facts = _facts(stream, name)
        stream.seek(0)
        data = _bytes(stream, facts.data_offset + facts.data_bytes, name)
        if len(data) < facts.data_offset + facts.data_bytes:
            found = max(0, len(data) - facts.data_offset)
            raise UnreadableScan(
                f"{name} is cut off: its header declares {facts.data_bytes:,} bytes of voxels, it holds {found:,}"
            )
        if len(_bytes(stream, PADDING_BYTES + 1, name)) > PADDING_BYTES:
            raise UnreadableScan(f"{name} holds more bytes than the {facts.data_bytes:,} that its header declares")
    stored = np.frombuffer(data, facts.dtype, math.prod(facts.shape), facts.data_offset)
    return _scaled(stored.reshape(facts.shape, order="F"), facts.scale), facts


def nifti_gz(
    values_XYZ: NDArray[Any], affine: NDArray[np.float64], unit_mm: float = 1.0, slope: float | None = None
) -> bytes:
    """A volume as the bytes of a .nii.gz; equal volumes give equal bytes.

    Args:
        values_XYZ: (X, Y, Z) or (X, Y, Z, C), of a dtype that NIfTI knows.
        affine: 4 x 4.
        unit_mm: the affine's unit of length: 1000, 1 or 0.001 mm.
        slope: by which readers multiply the values; None: they are as they are.
    """
    image = nib.nifti1.Nifti1Image(values_XYZ, affine)
    image.header.set_xyzt_units(_UNITS[unit_mm])
    content = bytearray(image.to_bytes())
    if slope is not None:
        struct.pack_into("=ff", content, _SLOPE_OFFSET, slope, 0.0)
    plain = io.BytesIO()
    with gzip.GzipFile(fileobj=plain, mode="wb", compresslevel=6, mtime=0, filename="") as stream:
        stream.write(content)
    return plain.getvalue()


@contextmanager
def _unpacked(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The file's content, unpacked as it is read where it is compressed, whatever its name says."""
    file.seek(0)
    start = file.read(2)
    file.seek(0)
    if not start:
        raise UnreadableScan(f"{name} is empty (0 bytes)")
    if start != b"\x1f\x8b":
        yield file
        return
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        yield cast(BinaryIO, stream)


def _bytes(stream: BinaryIO, count: int, name: str) -> bytes:
    try:
        return stream.read(count)
    except _GZIP_FAULTS as error:
        raise UnreadableScan(f"{name} is cut off or damaged: {str(error) or type(error).__name__}") from error


def _facts(stream: BinaryIO, name: str) -> NiftiFacts:
    header = _header(stream, name)
    try:
        return _checked(header)
    except _HEADER_FAULTS as error:
        raise UnreadableScan(f"{name} has a NIfTI header that makes no sense: {error}") from error


def _header(stream: BinaryIO, name: str) -> Header:
    start = _bytes(stream, 4, name)
    told = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    size = next((size for size in HEADER_BYTES if size in told), None)
    if size is None:
        raise UnreadableScan(f"{name} is not a NIfTI file, whatever its name says")
    block = start + _bytes(stream, size - 4, name)
    if len(block) < size:
        raise UnreadableScan(f"{name} is cut off: {len(block)} bytes, its header alone has {size}")
    kind = nib.nifti1.Nifti1Header if size == 348 else nib.nifti2.Nifti2Header
    header = kind(block, check=False)
    if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
        raise UnreadableScan(
            f"{name} is one half of a pair of header and voxels, or no NIfTI file; save the volume as one .nii.gz"
        )
    return header


def _checked(header: Header) -> NiftiFacts:
    """The facts of a header.

    Raises:
        ValueError: with what makes no sense.
    """
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise ValueError(f"{axes} axes")
    shape = tuple(int(length) for length in header["dim"][1 : axes + 1])
    if min(shape) < 1:
        raise ValueError(f"a size of {'×'.join(map(str, shape))} voxels")
    dtype = header.get_data_dtype()
    if dtype.kind in _REFUSED_KINDS or dtype.kind not in "biuf":
        raise ValueError(f"its voxels are {_REFUSED_KINDS.get(dtype.kind, str(dtype))}, not plain numbers")
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and len(header.binaryblock) <= offset <= MOST_OFFSET_BYTES):
        raise ValueError(f"its voxels begin at byte {offset:g}")
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    orientation = orientation_of(affine)
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = tuple(float(f"{side * unit:.6g}") for side in sides)  # headers hold float32
    return NiftiFacts(shape, affine, spacing, orientation, dtype, unit, _scale(header), int(offset))


def _scale(header: Header) -> tuple[float, float] | None:
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return None
    return float(slope), float(intercept)


def _scaled(stored: NDArray[Any], scale: tuple[float, float] | None) -> NDArray[Any]:
    if scale is None:
        return stored
    values: NDArray[Any] = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    slope, intercept = scale
    values *= slope
    values += intercept
    return values
