"""From an upload of volumes to a prepared dataset: as `intake` does it for pictures, case by case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.acceptance import MIN_SCANS, Prepared, Progress, refuse_no_dataset
from octa_backend.data.examination import Examination, Source
from octa_backend.data.file_findings import findings_about_files
from octa_backend.data.layouts import IMAGE_ENDINGS
from octa_backend.data.limits import IntakeLimits, check_room
from octa_backend.data.masks import classes_of, listed, shown_classes
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.scan_header import read_header
from octa_backend.data.slices import three_slices
from octa_backend.data.store import MASK_DTYPE, StoreWriter
from octa_backend.data.survey import opened
from octa_backend.data.volume_files import STACK_ENDINGS, is_nifti, read_volume, read_volume_mask
from octa_backend.data.volume_measuring import around, content_box, cut_out
from octa_backend.data.volume_statistics import VolumeStatistics
from octa_backend.data.volume_survey import VolumeSurvey, survey_volumes
from octa_backend.data.volume_viewing import SeenVolume, read_case, view_volumes
from octa_backend.diagnosis.messages import ordered
from octa_backend.diagnosis.volumes import examine_volumes
from octa_backend.errors import UnreadableScan
from octa_backend.storage.files import folder_written_aside

Keep = Callable[[SeenVolume], None]
"""Given a case that could be decoded."""


def holds_volumes(source: Source, limits: IntakeLimits) -> bool:
    """Whether an upload is to be read as volumes: most of its scans are NIfTI files, or all are TIFF stacks.

    Of TIFF files those that can be read decide. Of pictures that are no stacks one header is read.
    """
    pictures = [path for path in source.members if path.lower().endswith(IMAGE_ENDINGS)]
    if volumes := sum(is_nifti(path) for path in source.members):
        return volumes >= len(pictures)
    stacks = [path for path in pictures if path.lower().endswith(STACK_ENDINGS)]
    if len(stacks) < len(pictures):
        return False
    counts = (frames for path in stacks if (frames := _frames(source, path, limits)) is not None)
    return next(counts, 1) > 1 and all(frames > 1 for frames in counts)


def prepare_volumes(source: Source, target: Path, limits: IntakeLimits, executor: Executor) -> Prepared:
    """Check volumes and write them as a prepared dataset.

    Only cases without fault are kept. Each is brought to one orientation and cropped to what is not 0 in one of its
    channels or in its mask; its entry says how to go back.

    Args:
        source: where the files are.
        target: the folder to make.
        limits: how much the upload may hold.
        executor: decodes and measures.

    Raises:
        ArchiveTooLarge, StorageFull: the arrays are larger than allowed, or than the disk has room for.
        InvalidDataset: what is left is no dataset.
    """
    surveyed = survey_volumes(source, limits.max_scan_voxels)
    check_room(target.parent, surveyed.prepared_bytes, limits.max_unpacked_bytes)
    with folder_written_aside(target) as folder, StoreWriter(folder) as writer:
        kept: list[str] = []

        def keep(scan: SeenVolume) -> None:
            _add(writer, scan)
            kept.append(scan.statistics.name)

        examination = _examine(source, surveyed, limits, executor, keep)
        refuse_no_dataset(examination, len(kept))
        manifest = writer.finish(
            examination.mask_values, surveyed.labels, surveyed.modalities, surveyed.common_spacing_mm
        )
    return Prepared(manifest, examination.findings)


def examine_upload(
    source: Source, limits: IntakeLimits, executor: Executor, progress: Progress | None = None
) -> Examination:
    """Check volumes without keeping anything; everything that is wrong comes as a finding."""
    return _examine(source, survey_volumes(source, limits.max_scan_voxels), limits, executor, progress=progress)


def read_slices(
    source: Source, pair: Pair, limits: IntakeLimits, mask_values: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Three slices of one case as a picture: image (1, H, W), mask (H, W), see `three_slices` and `shown_classes`.

    Raises:
        UnreadableScan, ScanTooLarge: one of its files cannot be decoded, or they do not fit together.
    """
    most = limits.max_scan_voxels
    image = read_volume(opened(source, pair.image, most), pair.image, most, channels_allowed=True)
    mask = read_volume_mask(opened(source, pair.mask, most), pair.mask, most)
    if image.values.shape[1:] != mask.values.shape:
        raise UnreadableScan(f"{pair.mask} has not the size of {pair.image}")
    classes_DHW = shown_classes(np.clip(mask.values, 0, np.iinfo(MASK_DTYPE).max), mask_values)
    return three_slices(image.values, classes_DHW, image.spacing_mm)


def read_labelled(
    source: Source, surveyed: VolumeSurvey, pair: Pair, limits: IntakeLimits, mask_values: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.uint8], tuple[float, ...]]:
    """One case that was examined, cropped as its dataset would be.

    Returns:
        image (C, D, H, W); mask (D, H, W), see `shown_classes`; sides of a voxel, empty where the file knows of none.

    Raises:
        UnreadableScan, ScanTooLarge: one of its files cannot be decoded.
    """
    image, mask, volume = read_case(source, surveyed, pair, limits.max_scan_voxels)
    box = around([box for box in (content_box((image != 0).any(0)), content_box(mask != 0)) if box is not None])
    if box:
        image, mask = cut_out(image, box), cut_out(mask, box)
    return image, shown_classes(mask, mask_values), volume.spacing_mm if volume.geometry.orientation else ()


def _frames(source: Source, path: str, limits: IntakeLimits) -> int | None:
    """How many a file has; None where it cannot be read."""
    try:
        return read_header(opened(source, path, limits.max_scan_pixels), path).frames
    except UnreadableScan:
        return None


def _add(writer: StoreWriter, scan: SeenVolume) -> None:
    """What is not 0 of a case; all of it where there is nothing."""
    whole = tuple((0, length) for length in scan.mask.shape)
    statistics = scan.statistics
    contents = (statistics.of_image.content, statistics.of_mask.content)
    box = around([box for box in contents if box is not None]) or whole
    writer.add(
        statistics.name,
        statistics.patient,
        statistics.split,
        cut_out(scan.image, box),
        cut_out(scan.mask, box),
        spacing_mm=scan.volume.spacing_mm,
        geometry=scan.volume.geometry if box == whole else scan.volume.geometry.cropped(box),
    )


def _examine(
    source: Source,
    surveyed: VolumeSurvey,
    limits: IntakeLimits,
    executor: Executor,
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> Examination:
    faults: list[Fault] = list(surveyed.faults)
    volumes: list[VolumeStatistics] = []
    wanted = len(surveyed.readable)
    for done, view in enumerate(view_volumes(source, surveyed, limits.max_scan_voxels, executor), 1):
        faults += view.faults
        if view.scan is not None:
            volumes.append(view.scan.statistics)
            if keep is not None:
                keep(view.scan)
        if progress is not None:
            progress(done, wanted)
    if len(surveyed.pairs) < MIN_SCANS and surveyed.pairs:
        faults.append(Fault("too_few_scans", surveyed.pairs[0].image))
    mask_values, about_masks = _judge_masks(volumes, complete=len(volumes) == len(surveyed.pairs))
    faults += about_masks
    return Examination(
        pairs=tuple(surveyed.pairs),
        statistics=(),
        faults=tuple(faults),
        mask_values=mask_values,
        findings=ordered([*findings_about_files(faults), *examine_volumes(volumes, mask_values)]),
        labels=surveyed.labels,
        volumes=tuple(volumes),
        spatial_dims=3,
    )


def _judge_masks(volumes: Sequence[VolumeStatistics], *, complete: bool) -> tuple[tuple[int, ...], list[Fault]]:
    """What the masks' values mean together, and which masks are empty. Of masks that nobody saw nothing is said."""
    masks = {volume.mask: volume.of_mask.values for volume in volumes}
    if not masks:
        return (), []
    mask_values, faults = classes_of(masks)
    if faults:
        return mask_values, faults if complete else []
    if not mask_values:
        return (), [Fault("volume_masks_unclear", file, listed(values)) for file, values in masks.items()]
    return mask_values, [Fault("masks_empty_some", file) for file, values in masks.items() if values.is_empty]
