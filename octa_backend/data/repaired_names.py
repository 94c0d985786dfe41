"""Where the scans of a repaired dataset are written, so that the same scans in the same splits are read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

from octa_backend.data.layouts import find_layout
from octa_backend.data.pairing import MASK_AFFIX, Pair, key
from octa_backend.data.splits import apply_split_table

SPLIT_TABLE = "splits.csv"
_APART = "more"
"""A folder for images whose names look like those of masks: `12_gt` beside `12` would be taken for its mask."""


def arrange(splits: Mapping[str, str | None]) -> dict[str, str]:
    """Find each scan's path below `images/` and `masks/`, without ending.

    The path is the scan's name wherever it is read back as this name. It is not where a folder's name says something
    else (`scans/12`; `train/12` of a scan that validates now), and where the other scans of the same stem are left
    out. There `/` becomes `_`, which the scan's new name shows.

    Args:
        splits: scan name -> its split, or None.

    Returns:
        Scan name -> path; no two are equal, not even but for case.
    """
    meant = meant_splits(splits)
    plain: set[str] = set()
    while True:
        paths = _paths(splits, plain)
        wrong = set(_misread(paths, meant))
        if not wrong or len(plain) == len(paths):  # where all are plain, nothing is misread
            return paths
        plain = plain | wrong if wrong - plain else set(paths)


def name_of(scan: str, path: str) -> str:
    """What a scan that is written at a path of `arrange` is called when it is read back."""
    return scan if path == scan else path.rpartition("/")[2]


def meant_splits(splits: Mapping[str, str | None]) -> dict[str, str | None]:
    """The splits as a table says them: where some scans have one, the others are for training, as they are anyway."""
    rest = "train" if any(splits.values()) else None
    return {name: split or rest for name, split in splits.items()}


def split_table(written: Sequence[Pair]) -> bytes | None:
    """The table of the scans' splits as `splits.csv`, or None where there are none.

    Scans stand in it by their names, or all by their images' paths where a name would be taken for two scans' ("1.png"
    and "1").
    """
    if not any(pair.split for pair in written):
        return None
    by_name = {pair.name: str(pair.split) for pair in written}
    _, faults = apply_split_table(written, by_name, SPLIT_TABLE)
    rows = {pair.image: str(pair.split) for pair in written} if faults else by_name
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("stem", "split"), *rows.items()])
    return text.getvalue().encode()


def _misread(paths: Mapping[str, str], meant: Mapping[str, str | None]) -> list[str]:
    """The scans that would not be read back from their paths under their names, or in another split."""
    read = {pair.image: pair for pair in find_layout(file for path in paths.values() for file in _files(path)).pairs}
    return [scan for scan, path in paths.items() if not _is_read_as_meant(scan, path, read, meant[scan])]


def _is_read_as_meant(scan: str, path: str, read: Mapping[str, Pair], split: str | None) -> bool:
    image, mask = _files(path)
    pair = read.get(image)
    return pair is not None and (pair.name, pair.mask) == (name_of(scan, path), mask) and pair.split in (None, split)


def _files(path: str) -> tuple[str, str]:
    return f"images/{path}.png", f"masks/{path}.png"


def _paths(scans: Iterable[str], plain: set[str]) -> dict[str, str]:
    """Each scan's name as its path; but for those in `plain` one folder, and a stem that no other scan has."""
    paths = {scan: scan for scan in scans}
    taken = {key(path.rpartition("/")[2]) for path in paths if path not in plain}
    for scan in sorted(plain, key=lambda name: ("/" in name, name)):
        stem = _untaken(scan.replace("/", "_"), taken)
        taken.add(key(stem))
        paths[scan] = f"{_APART}/{stem}" if MASK_AFFIX.search(stem) else stem
    return paths


def _untaken(stem: str, taken: set[str]) -> str:
    if key(stem) not in taken:
        return stem
    return next(name for number in count(2) if key(name := f"{stem}_{number}") not in taken)
