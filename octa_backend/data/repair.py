"""A repaired copy of a dataset: planned steps are carried out one scan at a time, and a new zip is written."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from octa_backend.data.class_table import CLASS_TABLE, Labels, class_table, labels_of_colours
from octa_backend.data.examination import Source
from octa_backend.data.layouts import find_layout
from octa_backend.data.limits import MIB
from octa_backend.data.pairing import Pair
from octa_backend.data.repaired_names import SPLIT_TABLE, arrange, meant_splits, name_of, split_table
from octa_backend.data.repaired_scan import ScanAtWork
from octa_backend.data.survey import read_labels
from octa_backend.diagnosis.remedies import DATASET_REMEDIES
from octa_backend.diagnosis.steps import Step
from octa_backend.errors import InvalidDataset
from octa_backend.storage.files import move, part_name, remove

MOST_DEFLATED = 20
"""A file of more than 1 MiB that deflate makes smaller than by this factor is stored as it is: an upload that unpacks
to many times its size is refused."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the clock must not reach the bytes
_COMPRESSED_FORMATS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b")
_DROPS = ("drop_unusable", "drop_duplicates")
_REGROUP = "regroup_splits"

_Planned = Mapping[str, Sequence[tuple[int, Step]]]
"""Scan name -> its steps with their places in the plan."""

_Done = dict[int, Step]
"""Place in the plan -> the step that changed something, with what it changed."""


def write_repaired(
    source: Source, pairs: Sequence[Pair], steps: Sequence[Step], target: Path, max_pixels: int
) -> tuple[Step, ...]:
    """Write a dataset as a new zip, with each scan changed as its steps say.

    The zip holds `images/…`, `masks/…` and, where scans have a split, `splits.csv`, and
    where several classes have names or came from colours, `classes.csv`; see `repaired_names` for the names.
    Files that no step changes keep their bytes; changed ones become PNG. Files without partner are left out. Equal
    input gives equal bytes. One scan is in memory at a time.

    Args:
        source: where the files are.
        pairs: the scans, usable or not.
        steps: what is to be done; several steps of one scan follow each other in the order given.
        target: the zip to write; an older file is replaced. It appears whole or not at all.
        max_pixels: of one image or mask, the most to decode.

    Returns:
        The steps that changed something, in the order given, with what was really changed added to their details:
        drop_*: `files` that were left out; map_colours, binarize_masks, invert_masks, resize_masks: see `corrections`;
        drop_alpha: `alpha` ("constant" or "varies"), `mode_before` and `mode`; regroup_splits: `before`.

    Raises:
        ValueError: a step of an unknown remedy or scan, or one that the scan's mask does not allow.
        InvalidDataset: no scan is left.
        UnreadableScan, ScanTooLarge: a file cannot be read, or one that is to be changed cannot be decoded.
        OSError: the zip cannot be written.
    """
    planned, done = _by_scan(source, pairs, steps)
    kept = _without_dropped(pairs, planned, done)
    if not kept:
        raise InvalidDataset(f"all {len(pairs)} scans would be left out; nothing would be left to train on", ())
    kept = _regrouped(kept, planned, done)
    meant = meant_splits({pair.name: pair.split for pair in kept})
    paths = arrange(meant)
    written = []
    with zip_written_aside(target) as archive:
        for pair in sorted(kept, key=lambda pair: pair.name):
            scan = ScanAtWork(source, pair, max_pixels)
            for place, step in planned.get(pair.name, ()):
                if step.remedy != _REGROUP and (facts := scan.apply(step)) is not None:
                    done[place] = _with(step, **facts)
            written.append(_add_scan(archive, scan, pair.name, paths[pair.name], meant[pair.name]))
        if table := split_table(written):
            add_file(archive, SPLIT_TABLE, table)
        if labels := _labels(source, done.values()):
            add_file(archive, CLASS_TABLE, class_table(labels))
    return tuple(done[place] for place in sorted(done))


# --- the plan -----------------------------------------------------------------------------------------------------


def _by_scan(source: Source, pairs: Sequence[Pair], steps: Sequence[Step]) -> tuple[_Planned, _Done]:
    """The steps by scan; those that leave out a file without partner are done already."""
    scans = {pair.mask: pair.name for pair in pairs} | {pair.image: pair.name for pair in pairs}
    scans |= {pair.name: pair.name for pair in pairs}
    planned: dict[str, list[tuple[int, Step]]] = defaultdict(list)
    lone: dict[str, tuple[int, Step]] = {}
    for place, step in enumerate(steps):
        if step.remedy not in DATASET_REMEDIES:
            raise ValueError(f"{step.remedy!r} is no remedy of a dataset; there are {', '.join(DATASET_REMEDIES)}")
        if step.scan in scans:
            planned[scans[step.scan]].append((place, step))
        elif step.remedy in _DROPS and step.scan in source.members:
            lone.setdefault(step.scan, (place, step))
        else:
            raise ValueError(f"{step.remedy} is planned for {step.scan!r}, but there is no such scan")
    return planned, {place: _with(step, files=[path]) for path, (place, step) in lone.items()}


def _without_dropped(pairs: Sequence[Pair], planned: _Planned, done: _Done) -> list[Pair]:
    kept = []
    for pair in pairs:
        drops = [(place, step) for place, step in planned.get(pair.name, ()) if step.remedy in _DROPS]
        if drops:
            place, step = drops[0]
            done[place] = _with(step, files=[pair.image, pair.mask])
        else:
            kept.append(pair)
    return kept


def _regrouped(pairs: Sequence[Pair], planned: _Planned, done: _Done) -> list[Pair]:
    moved = []
    for pair in pairs:
        for place, step in planned.get(pair.name, ()):
            if step.remedy != _REGROUP:
                continue
            split = step.details["split"]
            if split not in ("train", "val", "test"):
                raise ValueError(f"{pair.name} is to be moved to {split!r}; splits are train, val and test")
            if split != pair.split:
                done[place] = _with(step, before=pair.split)
                pair = replace(pair, split=split)  # noqa: PLW2901
        moved.append(pair)
    return moved


def _with(step: Step, **facts: Any) -> Step:
    return replace(step, details={**step.details, **facts})


def _labels(source: Source, done: Iterable[Step]) -> Labels:
    """Names and colours of several classes: those that the upload brings, and the colours that became values."""
    classes_file = find_layout(source.members).classes_file
    labels = read_labels(source, classes_file)[0] if classes_file else {}
    maps = (step.details["colours"] for step in done if step.remedy == "map_colours")
    colours = next((colours for colours in maps if len(colours) > 2), None)
    return labels if colours is None else labels_of_colours(colours, labels)


# --- the zip ------------------------------------------------------------------------------------------------------


@contextmanager
def zip_written_aside(target: Path) -> Iterator[zipfile.ZipFile]:
    """Give a temporary zip that becomes `target` when the block ends well, and vanishes when it does not."""
    aside = part_name(target)
    try:
        with aside.open("xb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        move(aside, target)
    finally:
        remove(aside)


def _add_scan(archive: zipfile.ZipFile, scan: ScanAtWork, name: str, path: str, split: str | None) -> Pair:
    """Write the two files of a scan; the scan as it will be read back."""
    image, mask = scan.image(), scan.mask()
    written = Pair(name_of(name, path), f"images/{path}{image.ending}", f"masks/{path}{mask.ending}", split)
    add_file(archive, written.image, image.content)
    add_file(archive, written.mask, mask.content)
    return written


def add_file(archive: zipfile.ZipFile, path: str, content: bytes) -> None:
    """Write one file, packed where that is worth it; equal files give equal bytes."""
    entry = zipfile.ZipInfo(path, date_time=_EARLIEST)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if _is_worth_deflating(content) else zipfile.ZIP_STORED
    archive.writestr(entry, content)


def _is_worth_deflating(content: bytes) -> bool:
    if content.startswith(_COMPRESSED_FORMATS):
        return False
    return len(content) <= MIB or len(content) <= MOST_DEFLATED * len(zlib.compress(content))
