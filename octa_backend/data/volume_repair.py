"""A repaired copy of a dataset of volumes: planned steps are carried out case by case, and a new zip is written."""

# Shapes: C channels, D x H x W voxels of our convention; files are written in the canonical orientation.

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from octa_backend.data.class_table import CLASS_TABLE, class_table
from octa_backend.data.dataset_json import COMMON_SPACING
from octa_backend.data.examination import Source
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.pairing import Pair
from octa_backend.data.repair import add_file, zip_written_aside
from octa_backend.data.repaired_names import SPLIT_TABLE, arrange, meant_splits, name_of, split_table
from octa_backend.data.resampling import resample, resample_mask, target_shape
from octa_backend.data.survey import opened
from octa_backend.data.volume_files import (
    MIN_SIDE_VOXELS,
    MIN_SLICES,
    STACK_ENDINGS,
    Volume,
    VolumeHeader,
    read_volume,
    read_volume_mask,
)
from octa_backend.data.volume_layouts import JSON_FILE
from octa_backend.data.volume_survey import VolumeSurvey, survey_volumes
from octa_backend.diagnosis.steps import Step
from octa_backend.errors import InvalidDataset, RemedyNotApplicable

_DROPS = ("drop_unusable", "drop_duplicates")

_File = tuple[str, bytes]
"""A path in the new zip, and its content."""


def write_repaired_volumes(
    source: Source, steps: Sequence[Step], target: Path, limits: IntakeLimits
) -> tuple[Step, ...]:
    """Write a dataset of volumes as a new zip, with each case changed as its steps say.

    The zip holds `images/NAME.nii.gz` (with several modalities `NAME_0000.nii.gz`, …), `masks/NAME.nii.gz` and, where
    they are known, `splits.csv`, `classes.csv` and a `dataset.json` with the names of the modalities and the size that
    voxels were brought to. Files that no step changes keep their bytes, but for a fourth axis, which becomes files.
    Equal input gives equal bytes. One case is in memory at a time.

    Args:
        source: where the files are.
        steps: what is to be done, as `plan_volume_repair` made it of the same source.
        target: the zip to write; an older file is replaced. It appears whole or not at all.
        limits: of what is decoded.

    Returns:
        The steps that changed something, with what was really changed added to their details: drop_*: `files` that
        were left out; resample_spacing: `before` and `shape`; regroup_splits: `before`.

    Raises:
        InvalidDataset: no case is left.
        RemedyNotApplicable: a volume would get more or fewer voxels than an upload may have.
        UnreadableScan, ScanTooLarge: a file cannot be read, or one that is to be changed cannot be decoded.
        OSError: the zip cannot be written.
    """
    surveyed = survey_volumes(source, limits.max_scan_voxels)
    dropped = {step.scan: step for step in reversed(steps) if step.remedy in _DROPS}
    moved = {step.scan: step for step in steps if step.remedy == "regroup_splits"}
    spread = {step.scan: step for step in steps if step.remedy == "resample_spacing"}
    kept = [pair for pair in surveyed.pairs if pair.name not in dropped]
    if not kept:
        raise InvalidDataset(f"all {len(surveyed.pairs)} cases would be left out; none would be left to train on", ())
    _require_fits(surveyed, kept, spread, limits.max_scan_voxels)
    kept = [replace(pair, split=moved[pair.name].details["split"]) if pair.name in moved else pair for pair in kept]
    meant = meant_splits({pair.name: pair.split for pair in kept})
    paths = arrange(meant)
    done: dict[str, Mapping[str, Any]] = {}
    wanted = next((step.details["spacing_mm"] for step in spread.values()), surveyed.common_spacing_mm)
    written = []
    with zip_written_aside(target) as archive:
        for pair in sorted(kept, key=lambda pair: pair.name):
            files, facts = _files(source, surveyed, pair, paths[pair.name], spread.get(pair.name), limits)
            done |= {pair.name: facts} if facts else {}
            path = paths[pair.name]
            written.append(Pair(name_of(pair.name, path), files[0][0], files[-1][0], meant[pair.name]))
            for name, content in files:
                add_file(archive, name, content)
        _add_tables(archive, surveyed, written, wanted)
    return tuple(_with_facts(steps, surveyed, dropped, done))


def _with_facts(
    steps: Sequence[Step], surveyed: VolumeSurvey, dropped: Mapping[str, Step], done: Mapping[str, Mapping[str, Any]]
) -> Iterator[Step]:
    """The steps that were carried out, with what they changed."""
    files = {pair.name: [*pair.images, pair.mask] for pair in surveyed.pairs}
    for step in steps:
        if step.remedy in _DROPS:
            if dropped[step.scan] is step:
                yield replace(step, details={**step.details, "files": files.get(step.scan, [step.scan])})
        elif step.remedy == "regroup_splits":
            yield step
        elif step.scan in done:
            yield replace(step, details={**step.details, **done[step.scan]})


# --- one case -----------------------------------------------------------------------------------------------------


def _require_fits(surveyed: VolumeSurvey, kept: Sequence[Pair], spread: Mapping[str, Step], most: int) -> None:
    for pair in kept:
        if pair.name in spread:
            _require_fit(surveyed.headers[pair.image], pair, spread[pair.name], most)


def _require_fit(header: VolumeHeader, pair: Pair, step: Step, most: int) -> None:
    """Refuse to make a volume what no upload may be; most often its file says a wrong size of a voxel."""
    wanted, channels = step.details["spacing_mm"], header.channels + len(pair.further_images)
    spread = replace(header, shape=target_shape(header.shape, header.spacing_mm, wanted))
    if spread.voxels * channels > most:
        limit = f"at most {most:,} are allowed"
    elif min(spread.shape) < MIN_SLICES or sorted(spread.shape)[1] < MIN_SIDE_VOXELS:
        limit = f"the two longer sides need at least {MIN_SIDE_VOXELS} each, the third {MIN_SLICES}"
    else:
        return
    sizes = ["×".join(f"{side:g}" for side in sides) for sides in (header.spacing_mm, wanted)]
    of = f" of {channels} channels" if channels > 1 else ""
    raise RemedyNotApplicable(
        f"resample_spacing would bring {pair.image} from {header.size} to {spread.size} voxels{of}, {limit}: its file "
        f"says that a voxel has {sizes[0]} mm, most have {sizes[1]} mm; correct the size in the file, or leave it out"
    )


def _files(
    source: Source, surveyed: VolumeSurvey, pair: Pair, path: str, step: Step | None, limits: IntakeLimits
) -> tuple[list[_File], Mapping[str, Any]]:
    """The files of a case, the mask last; and what a resampling changed."""
    most = limits.max_scan_voxels
    header = surveyed.headers.get(pair.image)
    if step is None and (header is None or header.channels == 1):
        contents = [(file, opened(source, file, most).getvalue()) for file in (*pair.images, pair.mask)]
        return _named(path, [(_ending(file), content) for file, content in contents]), {}
    several = header is not None and header.channels > 1
    images = [read_volume(opened(source, file, most), file, most, channels_allowed=several) for file in pair.images]
    mask = read_volume_mask(opened(source, pair.mask, most), pair.mask, most)
    facts: dict[str, Any] = {}
    if step is not None:
        wanted, before = step.details["spacing_mm"], images[0]
        images, mask = [resample(image, wanted) for image in images], resample_mask(mask, wanted)
        facts = {"before": list(before.spacing_mm), "shape": list(mask.values.shape)}
    channels = [replace(image, values=channel) for image in images for channel in image.values]
    return _named(path, [(".nii.gz", _encoded(volume)) for volume in (*channels, mask)]), facts


def _encoded(volume: Volume) -> bytes:
    from octa_backend.data.nifti import nifti_gz  # noqa: PLC0415 - imports nibabel

    values = volume.values.astype("int32") if volume.values.dtype == "int64" else volume.values
    return nifti_gz(values.transpose(2, 1, 0), volume.affine)


def _named(path: str, files: Sequence[tuple[str, bytes]]) -> list[_File]:
    """Endings and contents of the images and, last, of the mask, under the case's path."""
    *images, (mask_ending, mask) = files
    numbers = [f"_{number:04d}" if len(images) > 1 else "" for number in range(len(images))]
    named = [
        (f"images/{path}{number}{ending}", content) for number, (ending, content) in zip(numbers, images, strict=True)
    ]
    return [*named, (f"masks/{path}{mask_ending}", mask)]


def _ending(file: str) -> str:
    lower = file.lower()
    return next(ending for ending in (".nii.gz", ".nii", *STACK_ENDINGS) if lower.endswith(ending))


def _add_tables(
    archive: zipfile.ZipFile, surveyed: VolumeSurvey, written: Sequence[Pair], spacing_mm: Sequence[float]
) -> None:
    if table := split_table(written):
        add_file(archive, SPLIT_TABLE, table)
    if surveyed.labels:
        add_file(archive, CLASS_TABLE, class_table(surveyed.labels))
    facts: dict[str, Any] = {}
    if surveyed.modalities:
        facts["channel_names"] = {str(number): name for number, name in enumerate(surveyed.modalities)}
    if spacing_mm:
        facts[COMMON_SPACING] = list(spacing_mm)
    if facts:
        add_file(archive, JSON_FILE, json.dumps(facts, ensure_ascii=False, indent=1).encode())
