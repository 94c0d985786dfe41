"""Which scans train, which validate, which are kept for the test: official splits first, then whole patients."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from octa_backend.data.layouts import IMAGE_ENDINGS, SPLIT_WORDS
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.patients import by_patient
from octa_backend.data.store import ScanEntry

_NAME_COLUMNS = ("stem", "name", "file", "filename", "file_name", "image", "image_name", "scan", "path", "id")
_SPLIT_COLUMNS = ("split", "set", "subset", "partition", "usage")


@dataclass(frozen=True, slots=True)
class Splits:
    """Indices into the dataset's scans, each in rising order.

    Attributes:
        train: scans to learn from.
        val: scans that choose the best epoch. Equal to `train` when there is a single scan to share.
        test: scans that are looked at once, at the end; empty without an official test split.
        grouped_by_patient: True where whole patients went to `val`.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    grouped_by_patient: bool


def assign_splits(entries: Sequence[ScanEntry], val_fraction: float, seed: int) -> Splits:
    """Decide which scans train, validate and test.

    An official split is honoured as it stands: no scan of it is moved, even where a patient is in two of its parts.
    Scans that an official split leaves out train. Without official validation scans, `val_fraction` of the training
    scans validates, at least one and never all: whole patients where at least half of the names show a patient and
    some patient has several scans, else drawn by scan. A single training scan is used for both.

    Args:
        entries: the scans of a dataset.
        val_fraction: share of the training scans, above 0 and below 1.
        seed: the same seed gives the same answer.

    Raises:
        ValueError: no scan is left to train on, or `val_fraction` is out of range.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; it lies between 0 and 1")
    train = [index for index, entry in enumerate(entries) if entry.split in ("train", None)]
    val = tuple(index for index, entry in enumerate(entries) if entry.split == "val")
    test = tuple(index for index, entry in enumerate(entries) if entry.split == "test")
    if not train:
        raise ValueError("no scan is left to train on")
    if val:
        return Splits(tuple(train), val, test, grouped_by_patient=False)
    if len(train) == 1:
        return Splits(tuple(train), tuple(train), test, grouped_by_patient=False)
    groups = by_patient(train, entries)
    grouped = len(groups) < len(train)
    chosen = _choose(groups, max(1, round(val_fraction * len(train))), seed)
    remaining = tuple(index for index in train if index not in chosen)
    return Splits(remaining, tuple(sorted(chosen)), test, grouped_by_patient=grouped)


def _choose(groups: Sequence[Sequence[int]], wanted: int, seed: int) -> set[int]:
    """Whole groups, at random, with about `wanted` scans: at least one group, and never all of them."""
    shuffled = [groups[position] for position in np.random.default_rng(seed).permutation(len(groups))]
    chosen: set[int] = set()
    for group in shuffled[:-1]:
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    return chosen or set(sorted(shuffled, key=len)[0])


# --- the table of an official split -------------------------------------------------------------------------------


def read_split_table(data: bytes, file: str) -> tuple[dict[str, str], list[Fault]]:
    """Read a `splits.csv`: a column of scans and a column of train, val or test, under usual headings.

    Args:
        data: UTF-8 or GB 18030; columns separated by comma, semicolon or tab.
        file: its path, for messages.

    Returns:
        What the table calls a scan -> "train", "val" or "test"; and faults.
    """
    try:
        lines = _lines(data)
    except (UnicodeDecodeError, csv.Error) as error:
        return {}, [Fault("splits_not_understood", file, f"not a table: {error}")]
    header = [cell.strip().casefold() for cell in lines[0][1]] if lines else []
    name_at = next((header.index(word) for word in _NAME_COLUMNS if word in header), None)
    split_at = next((header.index(word) for word in _SPLIT_COLUMNS if word in header), None)
    if name_at is None or split_at is None:
        return {}, [Fault("splits_not_understood", file, f"columns: {', '.join(header)[:200]}")]
    rows: dict[str, str] = {}
    faults = []
    for number, cells in lines[1:]:
        name, word = ((cells[at].strip() if at < len(cells) else "") for at in (name_at, split_at))
        split = SPLIT_WORDS.get(word.casefold())
        if split is None:
            faults.append(Fault("splits_not_understood", f"{file}, line {number}", f"{name}: {word!r}"))
        elif rows.setdefault(name, split) != split:
            faults.append(Fault("splits_not_understood", f"{file}, line {number}", f"{name}: {rows[name]}, {split}"))
    return rows, faults


def apply_split_table(pairs: Sequence[Pair], rows: Mapping[str, str], file: str) -> tuple[list[Pair], list[Fault]]:
    """Give scans the splits of a table.

    Rows that name no scan and scans that no row names are warnings: lists often cover more, or less, than was sent.
    A table that names no scan at all, or contradicts the folders, is a fault.
    """
    known = _ways_to_name(pairs)
    split_of = {known[_table_key(name)]: split for name, split in rows.items() if _table_key(name) in known}
    if not split_of:
        return list(pairs), [Fault("splits_not_understood", file, "no row names a scan")] if pairs else []
    notes = [Fault("splits_rows_unknown", name) for name in rows if _table_key(name) not in known]
    notes += [Fault("scans_without_split", pair.name) for pair in pairs if pair.name not in split_of and not pair.split]
    for pair in pairs:
        listed = split_of.get(pair.name, pair.split)
        if pair.split is not None and listed != pair.split:
            notes.append(Fault("splits_not_understood", pair.image, f"{file}: {listed}"))
    return [replace(pair, split=split_of.get(pair.name, pair.split)) for pair in pairs], notes


def _lines(data: bytes) -> list[tuple[int, list[str]]]:
    """The table's rows with their line numbers, without empty ones."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030")
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]


def _table_key(name: str) -> str:
    """A scan as a table may call it: any folder separator, with or without a scan's ending, any case."""
    plain = name.strip().replace("\\", "/").removeprefix("./").casefold()
    ending = next((ending for ending in (*IMAGE_ENDINGS, ".nii.gz", ".nii") if plain.endswith(ending)), "")
    return plain.removesuffix(ending)


def _ways_to_name(pairs: Sequence[Pair]) -> dict[str, str]:
    """Whatever names one scan only, by its name, its stem, or the paths of its files -> the scan's name."""
    names: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        for way in (pair.name, pair.image, pair.mask, pair.image.rpartition("/")[2]):
            names[_table_key(way)].add(pair.name)
    return {way: next(iter(those)) for way, those in names.items() if len(those) == 1}
