"""From an upload to a prepared dataset: every file is decoded and measured once, and all that does not fit is told."""

# Shapes: C channels, H x W pixels.

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.acceptance import MIN_SCANS, Prepared, Progress, refuse_no_dataset
from octa_backend.data.archive import SCANS_WANTED, Archive
from octa_backend.data.examination import Examination, Source
from octa_backend.data.file_findings import findings_about_files
from octa_backend.data.folder import Folder
from octa_backend.data.kept_files import KeptFiles
from octa_backend.data.limits import IntakeLimits, check_room
from octa_backend.data.masks import classes_of, shown_classes
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.scans import MaskPixels, decode_image, decode_mask
from octa_backend.data.statistics import ScanStatistics
from octa_backend.data.store import MASK_DTYPE, StoreWriter
from octa_backend.data.survey import Survey, opened, survey
from octa_backend.data.viewing import threads, view_all
from octa_backend.data.volume_intake import examine_upload, holds_volumes, prepare_volumes
from octa_backend.diagnosis import dataset as checks
from octa_backend.diagnosis.messages import ordered
from octa_backend.storage.files import folder_written_aside

TWO_CLASSES = (0, 255)
"""What masks mean whose values make no sense together: whatever is not 0 is foreground."""

Keep = Callable[[ScanStatistics, NDArray[Any], NDArray[Any]], None]
"""Given a scan that could be decoded: its image (C, H, W) and its mask (H, W) of stored values."""


def prepare(path: Path, target: Path, limits: IntakeLimits) -> Prepared:
    """Check a zip or a folder and write it as a prepared dataset.

    Scans with faults that a remedy can mend are kept as far as they can be read, and the findings say what is wrong:
    a mask of another size is stretched to its image, and in masks without a plain meaning whatever is not 0 is
    foreground. Files that cannot be read, or have no partner, are left out. Volumes: see `prepare_volumes`.

    Args:
        path: the zip, or on the command line a folder.
        target: the folder to make, with `images.bin`, `masks.bin` and `manifest.json` (see `store`). It must not
            exist, the folder around it must. It appears whole or not at all.
        limits: how much the upload may hold.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip or folder itself is refused; nothing was unpacked.
        StorageFull: the prepared arrays do not fit the disk.
        InvalidDataset: what is left is no dataset; its findings name every fault of every file.
        FileExistsError: `target` exists.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists")
    with opened_source(path, limits) as opened, threads() as executor:
        source = KeptFiles(opened)
        if holds_volumes(source, limits):
            return prepare_volumes(source, target, limits, executor)
        surveyed = survey(source, limits)
        check_room(target.parent, surveyed.prepared_bytes, limits.max_unpacked_bytes)
        with folder_written_aside(target) as folder, StoreWriter(folder) as writer:
            kept: list[str] = []

            def keep(scan: ScanStatistics, image_CHW: NDArray[Any], mask_HW: NDArray[Any]) -> None:
                image_CHW = np.repeat(image_CHW, surveyed.channels // image_CHW.shape[0], axis=0)
                writer.add(scan.name, scan.patient, scan.split, image_CHW, mask_HW)
                kept.append(scan.name)

            examination = _examine(source, surveyed, limits, executor, keep)
            refuse_no_dataset(examination, len(kept))
            manifest = writer.finish(examination.mask_values or TWO_CLASSES, surveyed.labels)
    return Prepared(manifest, examination.findings)


def examine(source: Source, limits: IntakeLimits, progress: Progress | None = None) -> Examination:
    """Check a zip or a folder without keeping anything; everything that is wrong comes as a finding."""
    with threads() as executor:
        kept = KeptFiles(source)
        if holds_volumes(kept, limits):
            return examine_upload(kept, limits, executor, progress)
        surveyed = survey(kept, limits)
        return _examine(kept, surveyed, limits, executor, progress=progress)


def opened_source(path: Path, limits: IntakeLimits, wanted: str = SCANS_WANTED) -> Archive | Folder:
    """Open a zip or a folder within the limits; `wanted` says what belongs into an empty one.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: it is refused.
    """
    if path.is_dir():
        return Folder(path, max_files=limits.max_files, wanted=wanted)
    return opened_archive(path, limits, wanted)


def opened_archive(path: Path, limits: IntakeLimits, wanted: str = SCANS_WANTED) -> Archive:
    """Open a zip within the limits; `wanted` says what belongs into an empty one.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: it is refused.
    """
    return Archive(
        path,
        max_files=limits.max_files,
        max_unpacked_bytes=limits.max_unpacked_bytes,
        max_ratio=limits.max_ratio,
        wanted=wanted,
    )


def read_pair(
    source: Source, pair: Pair, limits: IntakeLimits, mask_values: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """One scan as it can be shown, however faulty its mask is.

    Returns:
        image (C, H, W) as decoded; mask (H, W): see `shown_classes`.

    Raises:
        UnreadableScan, ScanTooLarge: one of its files cannot be decoded.
    """
    most = limits.max_scan_pixels
    image = decode_image(opened(source, pair.image, most), pair.image, most)
    mask = decode_mask(opened(source, pair.mask, most), pair.mask, most, by_colour=pair.mask_by_colour)
    return image.values, shown_classes(_stored_mask(mask, image.values.shape[1:]), mask_values)


def _examine(
    source: Source,
    surveyed: Survey,
    limits: IntakeLimits,
    executor: Executor,
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> Examination:
    faults, statistics = list(surveyed.faults), []
    wanted = surveyed.readable
    for done, view in enumerate(view_all(source, surveyed, limits.max_scan_pixels, executor), 1):
        faults += view.faults
        if view.scan is not None:
            statistics.append(view.scan.statistics)
            if keep is not None:
                image_CHW = view.scan.image.values
                keep(view.scan.statistics, image_CHW, _stored_mask(view.scan.mask, image_CHW.shape[1:]))
        if progress is not None:
            progress(done, len(wanted))
    if len(surveyed.pairs) < MIN_SCANS and surveyed.pairs:
        faults.append(Fault("too_few_scans", surveyed.pairs[0].image))
    mask_values, about_masks = _judge_masks(statistics, complete=len(statistics) == len(surveyed.pairs))
    faults += about_masks
    findings = [*findings_about_files(faults), *checks.examine(statistics, mask_values)]
    return Examination(
        pairs=tuple(surveyed.pairs),
        statistics=tuple(statistics),
        faults=tuple(faults),
        mask_values=mask_values,
        findings=ordered(findings),
        labels=surveyed.labels,
    )


def _judge_masks(scans: Sequence[ScanStatistics], *, complete: bool) -> tuple[tuple[int, ...], list[Fault]]:
    """What the masks' values mean together, and which masks are empty. Of masks that nobody saw nothing is said."""
    plain = {scan.mask: scan.of_mask.values for scan in scans if not scan.of_mask.colours}
    if not plain:
        return (), []
    mask_values, faults = classes_of(plain)
    if faults:
        return mask_values, faults if complete and len(plain) == len(scans) else []
    return mask_values, [Fault("masks_empty_some", file) for file, values in plain.items() if values.is_empty]


# --- pixels -------------------------------------------------------------------------------------------------------


def _stored_mask(mask: MaskPixels, shape: Sequence[int]) -> NDArray[Any]:
    """The mask as whole numbers that the store can hold, in the image's size."""
    values_HW = _plain_values(mask)
    if values_HW.shape == tuple(shape):
        return values_HW
    rows, columns = (
        np.arange(wanted) * length // wanted for wanted, length in zip(shape, values_HW.shape, strict=True)
    )
    stretched_HW: NDArray[Any] = values_HW[rows[:, None], columns]
    return stretched_HW


def _plain_values(mask: MaskPixels) -> NDArray[Any]:
    """The mask's values; 0 and 255 for a coloured mask, where black is 0, and for values beyond the store's range."""
    if mask.values is None:
        assert mask.rgb is not None
        return np.where(mask.rgb.any(axis=2), np.uint8(255), np.uint8(0))
    if mask.values.min() < 0 or mask.values.max() > np.iinfo(MASK_DTYPE).max:
        return np.where(mask.values != 0, np.uint8(255), np.uint8(0))
    return mask.values
