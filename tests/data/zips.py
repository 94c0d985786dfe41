"""Zips for the tests of the intake: built file by file, with real encoded images."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from octa_backend.data.intake import Prepared, prepare
from octa_backend.data.limits import IntakeLimits

LIMITS = IntakeLimits(max_files=1000, max_unpacked_bytes=64 * 2**20, max_ratio=200.0, max_scan_pixels=1_000_000)
SIZE = 24


def grey(seed: int = 0, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Noise, uint8 (H, W)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def colour(seed: int = 0) -> np.ndarray:
    """Noise, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def square(value: int = 255, dtype: Any = np.uint8, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """A mask with a square of `value`, a quarter of 24×24."""
    mask = np.zeros((height, width), dtype=dtype)
    mask[4:16, 4:16] = value
    return mask


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file of one image."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def zip_of(path: Path, files: Mapping[str, bytes] | Sequence[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    """Write a zip."""
    entries = files.items() if isinstance(files, Mapping) else files
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def raw_zip(
    path: Path | io.BytesIO,
    files: Sequence[tuple[bytes, bytes]],
    *,
    flags: int = 0,
    method: int = 0,
    extra: bytes = b"",
    declared: int | None = None,
    crc: int | None = None,
) -> Path | io.BytesIO:
    """Write a zip byte by byte: names are bytes, and size and checksum may lie."""
    body, directory = io.BytesIO(), io.BytesIO()
    for name, data in files:
        size = len(data) if declared is None else declared
        checksum = zlib.crc32(data) if crc is None else crc
        sizes = struct.pack("<LLLHH", checksum, len(data), size, len(name), len(extra))
        fields = struct.pack("<HHHHH", 20, flags, method, 0, 33) + sizes
        places = struct.pack("<HHHLL", 0, 0, 0, 0, body.tell())
        body.write(b"PK\3\4" + fields + name + extra + data)
        directory.write(b"PK\1\2\x14\0" + fields + places + name + extra)
    end = struct.pack("<HHHHLLH", 0, 0, len(files), len(files), directory.tell(), body.tell(), 0)
    written = body.getvalue() + directory.getvalue() + b"PK\5\6" + end
    path.write(written) if isinstance(path, io.BytesIO) else path.write_bytes(written)
    return path


def dataset() -> dict[str, bytes]:
    """Three sound scans in images/ and masks/."""
    files = {f"images/{n}.png": encoded(grey(n)) for n in (1, 2, 3)}
    return files | {f"masks/{n}.png": encoded(square()) for n in (1, 2, 3)}


def with_masks(*masks: bytes, ending: str = "png") -> dict[str, bytes]:
    """One image per mask."""
    files = {f"images/{n}.png": encoded(grey(n)) for n, _ in enumerate(masks)}
    return files | {f"masks/{n}.{ending}": mask for n, mask in enumerate(masks)}


def with_images(*images: bytes, ending: str = "png", mask: bytes | None = None) -> dict[str, bytes]:
    """One mask per image."""
    files = {f"images/{n}.{ending}": image for n, image in enumerate(images)}
    return files | {f"masks/{n}.png": mask or encoded(square()) for n, _ in enumerate(images)}


def take_in(folder: Path, files: Mapping[str, bytes], limits: IntakeLimits = LIMITS) -> Prepared:
    """Zip the files and prepare them as `folder / "out"`."""
    return prepare(zip_of(folder / "upload.zip", files), folder / "out", limits)
