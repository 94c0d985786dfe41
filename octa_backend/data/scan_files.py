"""Scans without masks: which files of a zip or a folder they are, and what the pictures made of them are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path, PurePosixPath

from octa_backend.data.examination import Source
from octa_backend.data.layouts import IMAGE_ENDINGS
from octa_backend.data.limits import MIB
from octa_backend.errors import InvalidArchive

# No usual format needs more per pixel; with room for what cameras write around the pixels.
MAX_FILE_BYTES_PER_PIXEL, MAX_FILE_EXTRA_BYTES = 16, 64 * MIB


def is_zip(path: Path, name: str) -> bool:
    """Whether a file is meant as a zip: by its name or by its first bytes."""
    with path.open("rb") as file:
        return name.lower().endswith(".zip") or file.read(4) in (b"PK\3\4", b"PK\5\6")


def scan_names(source: Source) -> list[str]:
    """The paths of the images of a zip or a folder, in the order of their names.

    Raises:
        InvalidArchive: there is none.
    """
    names = sorted(name for name in source.members if name.lower().endswith(IMAGE_ENDINGS))
    if not names:
        raise InvalidArchive(
            f"{len(source.members)} files came, but no image; send scans whose names end in {', '.join(IMAGE_ENDINGS)}"
        )
    return names


def count_ignored(source: Source, scans: Sequence[str]) -> int:
    """Files that are no images, and further files of a name that is there more than once."""
    return len(source.members) - len(scans) + sum(times - 1 for times in source.duplicates.values())


def read_scan(source: Source, name: str, max_pixels: int) -> bytes:
    """One scan's file.

    Raises:
        UnreadableScan: it is damaged, or far larger than an image of `max_pixels` can be.
    """
    return source.read(name, max_pixels * MAX_FILE_BYTES_PER_PIXEL + MAX_FILE_EXTRA_BYTES)


def picture_names(scans: Iterable[str]) -> dict[str, str]:
    """Scan -> path without ending of the pictures made of it: different ones, also where letters' case does not count.

    The scan's own path without its ending; with it, where two differ in nothing else ("a/1.tif" and "a/1.png").
    """
    names = list(scans)
    plain = {name: str(PurePosixPath(name).with_suffix("")) for name in names}
    times = Counter(stem.casefold() for stem in plain.values())
    taken = {stem.casefold() for stem in plain.values() if times[stem.casefold()] == 1}
    chosen: dict[str, str] = {}
    for name in names:
        wanted = plain[name]
        if times[wanted.casefold()] > 1:
            wanted = distinct(name, taken)
            taken.add(wanted.casefold())
        chosen[name] = wanted
    return chosen


def distinct(name: str, taken: Set[str]) -> str:
    """The name, or with a number before its ending where it is taken; `taken` holds casefolded names."""
    path, number, wanted = PurePosixPath(name), 1, name
    while wanted.casefold() in taken:
        number += 1
        wanted = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
    return wanted
