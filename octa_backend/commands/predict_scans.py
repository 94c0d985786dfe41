"""The scans that `octa predict` was given: files, and what folders and zips hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from octa_backend.data.archive import PREDICTED_WANTED
from octa_backend.data.examination import Source
from octa_backend.data.intake import opened_source
from octa_backend.data.scan_files import distinct, is_zip, read_scan, scan_names
from octa_backend.service.dataset_service import limits
from octa_backend.settings import Settings


@dataclass(frozen=True, slots=True)
class GivenScan:
    """One scan to predict.

    Attributes:
        name: as tables name it: the file's name, or its path below the folder or in the zip.
        opened: gives its content.
        alone: it was named by itself; if it cannot be read, nothing is.
        file: where it lies; None in a zip.
    """

    name: str
    opened: Callable[[], Path | BinaryIO]
    alone: bool
    file: Path | None


def given_scans(paths: Sequence[Path], settings: Settings, stack: ExitStack) -> list[GivenScan]:
    """All scans, in their order.

    Args:
        paths: images, folders or zips.
        settings: limits of folders and zips.
        stack: closes what was opened.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: a folder or a zip does not fit, or holds no image.
    """
    return _distinct([scan for path in paths for scan in _scans(path, settings, stack)])


def _scans(path: Path, settings: Settings, stack: ExitStack) -> Iterator[GivenScan]:
    """The scans of a folder, of a zip, or the one file."""
    if not path.is_dir() and not is_zip(path, path.name):
        yield GivenScan(path.name, lambda: path, alone=True, file=path)
        return
    source = opened_source(path, limits(settings), PREDICTED_WANTED)
    stack.enter_context(source)
    for name in scan_names(source):
        file = path / name if path.is_dir() else None
        yield GivenScan(name, partial(_in_memory, source, name, settings.max_scan_pixels), alone=False, file=file)


def _in_memory(source: Source, name: str, max_pixels: int) -> BinaryIO:
    return io.BytesIO(read_scan(source, name, max_pixels))


def _distinct(scans: Sequence[GivenScan]) -> list[GivenScan]:
    """Scans of one name, from different folders, get a number, so that no picture is written over another one."""
    taken: set[str] = set()
    found = []
    for scan in scans:
        found.append(replace(scan, name=distinct(scan.name, taken)))
        taken.add(found[-1].name.casefold())
    return found
