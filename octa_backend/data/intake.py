"""From an uploaded zip to a prepared dataset: every file is examined, and all that does not fit is told at once."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.archive import MIB, Archive, mebibytes
from octa_backend.data.layouts import find_layout
from octa_backend.data.masks import MaskValues, classes_of, values_of
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.scans import Header, decode_mask, fault_of, read_header, read_image
from octa_backend.data.splits import apply_split_table, patient_of, read_split_table
from octa_backend.data.store import MASK_DTYPE, Manifest, StoreWriter
from octa_backend.diagnosis.findings import Finding, Severity, finding_about_files
from octa_backend.diagnosis.messages import MESSAGES, render
from octa_backend.errors import ArchiveTooLarge, InvalidDataset, ScanTooLarge, StorageFull, UnreadableScan
from octa_backend.storage.files import folder_written_aside

MIN_SCANS = 2
MAX_TABLE_BYTES = 16 * MIB
# No usual format needs more per pixel; with room for what cameras write around the pixels.
MAX_FILE_BYTES_PER_PIXEL, MAX_FILE_EXTRA_BYTES = 16, 64 * MIB

WARNINGS = ("masks_empty_some", "splits_rows_unknown", "scans_without_split")
ABOUT_ALL_MASKS = ("masks_all_empty", "masks_all_foreground")
INFOS = ("files_ignored", "masks_passed_over", "alpha_dropped", "channels_mixed")


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """How much an upload may hold.

    Attributes:
        max_files: files in the archive.
        max_unpacked_bytes: of the archive's members together, and of the prepared arrays together.
        max_ratio: unpacked by packed bytes, for members above 1 MiB.
        max_scan_pixels: of one image.
    """

    max_files: int
    max_unpacked_bytes: int
    max_ratio: float
    max_scan_pixels: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A dataset that was taken in: what it holds, and warnings and infos about it."""

    manifest: Manifest
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Survey:
    """What names and headers show, and all that was noticed so far."""

    pairs: list[Pair]
    headers: dict[str, Header] = field(default_factory=dict)
    noticed: list[Fault] = field(default_factory=list)
    has_faults: bool = False
    is_incomplete: bool = False  # a pair was left out, so its mask is not looked at

    def note(self, noticed: Iterable[Fault]) -> None:
        for fault in noticed:
            self.noticed.append(fault)
            self.has_faults |= _severity(fault.code) is Severity.ERROR

    @property
    def channels(self) -> int:
        return max((self.headers[pair.image].channels for pair in self.pairs), default=1)


def prepare(archive: Path, target: Path, limits: IntakeLimits) -> Prepared:
    """Check an uploaded zip and write it as a prepared dataset.

    Args:
        archive: the zip.
        target: the folder to make, with `images.bin`, `masks.bin` and `manifest.json` (see `store`). It must not
            exist, the folder around it must. It appears whole or not at all.
        limits: how much the upload may hold.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip itself is refused; nothing was unpacked.
        StorageFull: the prepared arrays do not fit the disk.
        InvalidDataset: scans and masks do not fit together; its findings name every fault of every file.
        FileExistsError: `target` exists.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists")
    with Archive(
        archive,
        max_files=limits.max_files,
        max_unpacked_bytes=limits.max_unpacked_bytes,
        max_ratio=limits.max_ratio,
    ) as opened:
        survey = _survey(opened, limits)
        check_room(target.parent, _prepared_bytes(survey), limits.max_unpacked_bytes)
        with folder_written_aside(target) as folder, StoreWriter(folder) as writer:
            masks = _decode(opened, survey, writer, limits.max_scan_pixels)
            mask_values, faults = classes_of(masks) if masks else ((), [])
            survey.note(fault for fault in faults if not (survey.is_incomplete and fault.code in ABOUT_ALL_MASKS))
            _raise_faults(survey)
            survey.note(Fault("masks_empty_some", file) for file, values in masks.items() if values.is_empty)
            manifest = writer.finish(mask_values)
    return Prepared(manifest, _findings(survey.noticed))


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


# --- names and headers --------------------------------------------------------------------------------------------


def _survey(archive: Archive, limits: IntakeLimits) -> _Survey:
    layout = find_layout(archive.members)
    survey = _Survey(list(layout.pairs))
    survey.note((*layout.faults, *layout.notes))
    survey.note(Fault("duplicate_names", name, f"{n} times") for name, n in archive.duplicates.items())
    if layout.splits_file:
        _apply_splits(archive, survey, layout.splits_file)
    for path in layout.images:
        _read_one_header(archive, survey, path, limits.max_scan_pixels)
    if 0 < len(survey.pairs) < MIN_SCANS and not survey.has_faults:
        survey.note([Fault("too_few_scans", survey.pairs[0].image)])
    if survey.pairs and all(pair.split in ("val", "test") for pair in survey.pairs):
        survey.note(Fault("splits_without_train", pair.image, str(pair.split)) for pair in survey.pairs)
    survey.pairs = [pair for pair in survey.pairs if _same_size(survey, pair)]
    survey.is_incomplete = len(survey.pairs) < len(layout.pairs)
    _note_conversions(survey)
    return survey


def _apply_splits(archive: Archive, survey: _Survey, file: str) -> None:
    try:
        rows, faults = read_split_table(archive.read(file, MAX_TABLE_BYTES), file)
    except UnreadableScan as error:
        survey.note([Fault("splits_not_understood", file, _reason(error, file))])
        return
    if not faults:
        survey.pairs, faults = apply_split_table(survey.pairs, rows, file)
    survey.note(faults)


def _read_one_header(archive: Archive, survey: _Survey, path: str, max_pixels: int) -> None:
    try:
        header = read_header(_open(archive, path, max_pixels), path)
    except UnreadableScan as error:
        survey.note([Fault("scan_unreadable", path, _reason(error, path))])
        return
    if fault := fault_of(header, max_pixels):
        code, found = fault
        survey.note([Fault(code, path, found)])
    else:
        survey.headers[path] = header


def _open(archive: Archive, path: str, max_pixels: int) -> io.BytesIO:
    return io.BytesIO(archive.read(path, max_pixels * MAX_FILE_BYTES_PER_PIXEL + MAX_FILE_EXTRA_BYTES))


def _same_size(survey: _Survey, pair: Pair) -> bool:
    """Whether both headers are sound and of one size."""
    image, mask = survey.headers.get(pair.image), survey.headers.get(pair.mask)
    if not image or not mask:
        return False
    if image.size != mask.size:
        sizes = {"mask": pair.mask, "mask_size": mask.size, "image": pair.image, "image_size": image.size}
        survey.note([Fault("sizes_differ", pair.mask, f"{mask.size}, {pair.image} {image.size}", sizes)])
    return image.size == mask.size


def _note_conversions(survey: _Survey) -> None:
    images = {pair.image: survey.headers[pair.image] for pair in survey.pairs}
    survey.note(Fault("alpha_dropped", path, header.mode) for path, header in images.items() if header.has_alpha)
    grey = [path for path, header in images.items() if header.channels < survey.channels]
    survey.note(Fault("channels_mixed", path, images[path].mode) for path in grey)


def _prepared_bytes(survey: _Survey) -> int:
    total = 0
    for pair in survey.pairs:
        header = survey.headers[pair.image]
        total += header.decoded_bytes * survey.channels // header.channels
        total += header.width * header.height * MASK_DTYPE.itemsize
    return total


# --- pixels -------------------------------------------------------------------------------------------------------


def _decode(archive: Archive, survey: _Survey, writer: StoreWriter, max_pixels: int) -> dict[str, MaskValues]:
    """Decode scan by scan, and write while nothing is wrong; returns the values of each mask."""
    masks: dict[str, MaskValues] = {}
    for pair in survey.pairs:
        image_CHW = _decode_image(archive, survey, pair.image, max_pixels)
        mask_HW = _decode_mask(archive, survey, pair.mask, max_pixels)
        if mask_HW is None:
            survey.is_incomplete = True
        else:
            masks[pair.mask] = values_of(mask_HW)
        if image_CHW is None or mask_HW is None or survey.has_faults or not masks[pair.mask].is_storable:
            continue
        image_CHW = np.repeat(image_CHW, survey.channels // image_CHW.shape[0], axis=0)
        writer.add(pair.name, patient_of(pair.name), pair.split, image_CHW, mask_HW)
    return masks


def _decode_image(archive: Archive, survey: _Survey, path: str, max_pixels: int) -> NDArray[Any] | None:
    try:
        return read_image(_open(archive, path, max_pixels), path, max_pixels)
    except (UnreadableScan, ScanTooLarge) as error:
        survey.note([Fault("scan_unreadable", path, _reason(error, path))])
        return None


def _decode_mask(archive: Archive, survey: _Survey, path: str, max_pixels: int) -> NDArray[Any] | None:
    try:
        mask = decode_mask(_open(archive, path, max_pixels), path, max_pixels)
    except (UnreadableScan, ScanTooLarge) as error:
        survey.note([Fault("scan_unreadable", path, _reason(error, path))])
        return None
    if mask.values is None:
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in mask.colours]
        more = ", …" if mask.colour_count > len(colours) else ""
        found = f"{mask.colour_count}: {', '.join(colours)}{more}"
        evidence = {"colours": colours, "colour_count": mask.colour_count}
        survey.note([Fault("masks_coloured", path, found, evidence)])
    return mask.values


def _reason(error: UnreadableScan | ScanTooLarge, path: str) -> str:
    """The error's message without the file's name, which stands beside it."""
    return error.message.removeprefix("mask ").removeprefix(path).strip().removeprefix("is ")


# --- the outcome --------------------------------------------------------------------------------------------------


def _findings(noticed: Sequence[Fault]) -> tuple[Finding, ...]:
    """One finding per code, in the order of `MESSAGES`, where errors come first."""
    by_code: dict[str, dict[str, str]] = {}
    evidence: dict[str, Mapping[str, Any]] = {}
    for fault in sorted(noticed, key=lambda fault: fault.file):
        by_code.setdefault(fault.code, {})[fault.file] = fault.found
        evidence.setdefault(fault.code, fault.evidence)
    return tuple(
        finding_about_files(code, _severity(code), by_code[code], **evidence[code])
        for code in sorted(by_code, key=list(MESSAGES).index)
    )


def _severity(code: str) -> Severity:
    return Severity.WARNING if code in WARNINGS else Severity.INFO if code in INFOS else Severity.ERROR


def _raise_faults(survey: _Survey) -> None:
    if not survey.has_faults:
        return
    findings = _findings(survey.noticed)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    count = sum(finding.evidence["count"] for finding in errors)
    first = render(MESSAGES[errors[0].code], errors[0].evidence, "en")
    raise InvalidDataset(f"{count} {'fault' if count == 1 else 'faults'} in the archive; first: {first}", findings)
