"""How much an upload may hold."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from octa_backend.errors import ArchiveTooLarge, StorageFull

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much an upload may hold.

    Attributes:
        max_files: files in the archive.
        max_unpacked_bytes: of the archive's members together, and of the prepared arrays together.
        max_ratio: unpacked bytes of all members above 1 MiB by the bytes of the archive.
        max_scan_pixels: of one image.
        max_scan_voxels: of one volume, all its channels.
    """

    max_files: int
    max_unpacked_bytes: int
    max_ratio: float
    max_scan_pixels: int
    max_scan_voxels: int = 2**28


def mebibytes(size: int) -> str:
    """A number of bytes in words: "12.5 MiB"."""
    return f"{size / MIB:,.1f} MiB"


def check_room(folder: Path, needed_bytes: int, max_bytes: int) -> None:
    """Refuse arrays that are larger than allowed, or than the disk has room for.

    Raises:
        ArchiveTooLarge: the scans decode to more than `max_bytes`.
        StorageFull: the disk of `folder` has less than `needed_bytes` left.
    """
    if needed_bytes > max_bytes:
        raise ArchiveTooLarge(f"the scans decode to {mebibytes(needed_bytes)}, {mebibytes(max_bytes)} are allowed")
    if needed_bytes > (free := shutil.disk_usage(folder).free):
        raise StorageFull(f"the scans decode to {mebibytes(needed_bytes)}, the disk has {mebibytes(free)} left")
