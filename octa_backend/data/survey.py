"""What names and headers show of an upload before a pixel is decoded: which files are scans, and how large."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from octa_backend.data.class_table import Labels, read_class_table
from octa_backend.data.examination import Source
from octa_backend.data.layouts import find_layout
from octa_backend.data.limits import MIB, IntakeLimits
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.palette_order import with_palettes_judged
from octa_backend.data.scan_files import read_scan
from octa_backend.data.scan_header import Header, fault_of, read_header
from octa_backend.data.sizes import turn_between
from octa_backend.data.splits import apply_split_table, read_split_table
from octa_backend.data.store import MASK_DTYPE
from octa_backend.errors import ScanTooLarge, UnreadableScan

MAX_TABLE_BYTES = 16 * MIB
_EXPLANATIONS = {"none": "scale", "transpose": "turn", None: "nothing"}


@dataclass(slots=True)
class Survey:
    """The scans by name, the headers of their files, and what was noticed so far.

    Attributes:
        pairs: as the files' names show them, with what their masks' palettes mean.
        headers: path -> header, of the files whose header is one of a scan.
        faults: what does not fit, and what is good to know.
        labels: what the values of the masks are called, where the upload says so.
    """

    pairs: list[Pair]
    headers: dict[str, Header] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    labels: Labels = field(default_factory=dict)

    @property
    def readable(self) -> list[Pair]:
        """The pairs that are worth decoding."""
        return [pair for pair in self.pairs if pair.image in self.headers and pair.mask in self.headers]

    @property
    def channels(self) -> int:
        """Of the prepared images: the most that one of them has."""
        return max((self.headers[pair.image].channels for pair in self.readable), default=1)

    @property
    def prepared_bytes(self) -> int:
        """Size of the prepared arrays, at most."""
        total, channels = 0, self.channels
        for pair in self.readable:
            header = self.headers[pair.image]
            total += header.decoded_bytes * channels // header.channels
            total += header.width * header.height * MASK_DTYPE.itemsize
        return total


def survey(source: Source, limits: IntakeLimits) -> Survey:
    """Pair the files by their names, apply an official split, and read every header."""
    layout = find_layout(source.members)
    found = Survey(list(layout.pairs), faults=[*layout.faults, *layout.notes])
    found.faults += [Fault("duplicate_names", name, f"{n} times") for name, n in source.duplicates.items()]
    if layout.splits_file:
        found.pairs, faults = apply_splits(source, found.pairs, layout.splits_file)
        found.faults += faults
    if layout.classes_file:
        found.labels, faults = read_labels(source, layout.classes_file)
        found.faults += faults
    for path in layout.images:
        outcome = _read_one_header(source, path, limits.max_scan_pixels)
        if isinstance(outcome, Fault):
            found.faults.append(outcome)
        else:
            found.headers[path] = outcome
    found.pairs = with_palettes_judged(source, found.pairs, found.headers, limits.max_scan_pixels)
    if found.pairs and all(pair.split in ("val", "test") for pair in found.pairs):
        found.faults += [Fault("splits_without_train", pair.image, str(pair.split)) for pair in found.pairs]
    found.faults += _different_sizes(found)
    found.faults += _conversions(found)
    return found


def opened(source: Source, path: str, max_pixels: int) -> io.BytesIO:
    """One file of an upload, in memory.

    Raises:
        UnreadableScan: it is damaged, or far larger than an image of `max_pixels` can be.
    """
    return io.BytesIO(read_scan(source, path, max_pixels))


def read_labels(source: Source, file: str) -> tuple[Labels, list[Fault]]:
    """The names and colours of classes that an upload brings along."""
    try:
        return read_class_table(source.read(file, MAX_TABLE_BYTES), file)
    except UnreadableScan as error:
        return {}, [Fault("classes_not_understood", file, reason(error, file))]


def reason(error: UnreadableScan | ScanTooLarge, path: str) -> str:
    """The error's message without the file's name, which stands beside it."""
    return error.message.removeprefix("mask ").removeprefix(path).strip().removeprefix("is ")


def apply_splits(source: Source, pairs: list[Pair], file: str) -> tuple[list[Pair], list[Fault]]:
    """The pairs with the splits of an upload's table, and what does not fit in it."""
    try:
        rows, faults = read_split_table(source.read(file, MAX_TABLE_BYTES), file)
    except UnreadableScan as error:
        return pairs, [Fault("splits_not_understood", file, reason(error, file))]
    return (pairs, faults) if faults else apply_split_table(pairs, rows, file)


def _read_one_header(source: Source, path: str, max_pixels: int) -> Header | Fault:
    try:
        header = read_header(opened(source, path, max_pixels), path)
    except UnreadableScan as error:
        return Fault("scan_unreadable", path, reason(error, path))
    if fault := fault_of(header, max_pixels):
        code, what = fault
        return Fault(code, path, what)
    return header


def _different_sizes(found: Survey) -> Iterable[Fault]:
    for pair in found.readable:
        image, mask = found.headers[pair.image], found.headers[pair.mask]
        if image.size != mask.size:
            sizes = {"mask": pair.mask, "mask_size": mask.size, "image": pair.image, "image_size": image.size}
            turn = turn_between((image.height, image.width), (mask.height, mask.width))
            sizes["explained_by"] = _EXPLANATIONS[turn]
            yield Fault("sizes_differ", pair.mask, f"{mask.size}, {pair.image} {image.size}", sizes)


def _conversions(found: Survey) -> Iterable[Fault]:
    channels = found.channels
    for pair in found.readable:
        header = found.headers[pair.image]
        if header.channels < channels:
            yield Fault("channels_mixed", pair.image, header.mode)
