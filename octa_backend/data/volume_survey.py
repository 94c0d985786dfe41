"""What names and headers show of an upload of volumes before a voxel is decoded."""

# Affines are compared after both volumes were brought to one orientation.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.class_table import Labels
from octa_backend.data.dataset_json import DatasetNames, read_dataset_json
from octa_backend.data.examination import Source
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.store import MASK_DTYPE
from octa_backend.data.survey import MAX_TABLE_BYTES, apply_splits, opened, read_labels, reason
from octa_backend.data.volume_files import VolumeHeader, check_header, read_volume_header
from octa_backend.data.volume_geometry import canonical_affine
from octa_backend.data.volume_layouts import find_volume_layout, may_hold_channels
from octa_backend.errors import ScanTooLarge, UnreadableScan

MAX_DISPLACEMENT = 0.1
"""Corners of a mask and of its image may lie apart by this share of the voxel's shortest side: rounding of headers."""


@dataclass(slots=True)
class VolumeSurvey:
    """The cases by name, the headers of their files, and what was noticed so far.

    Attributes:
        pairs: as the files' names show them.
        headers: path -> header, of the files whose header is one of a volume.
        faults: what does not fit, and what is good to know.
        labels: what the values of the masks are called, where the upload says so.
        modalities: what the channels are called, where the upload says so.
        common_spacing_mm: see `DatasetNames`.
    """

    pairs: list[Pair]
    headers: dict[str, VolumeHeader] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    labels: Labels = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    common_spacing_mm: tuple[float, ...] = ()
    unfit: set[str] = field(default_factory=set)

    @property
    def readable(self) -> list[Pair]:
        """The pairs that are worth decoding: all files are volumes, and lie in one place."""
        return [
            pair
            for pair in self.pairs
            if pair.name not in self.unfit and all(path in self.headers for path in (*pair.images, pair.mask))
        ]

    @property
    def prepared_bytes(self) -> int:
        """Size of the prepared arrays, at most."""
        return sum(self.decoded_bytes(pair) for pair in self.readable)

    def decoded_bytes(self, pair: Pair) -> int:
        """Size of one prepared case, at most."""
        voxels = self.headers[pair.mask].voxels
        return sum(self.headers[path].decoded_bytes for path in pair.images) + voxels * MASK_DTYPE.itemsize


def survey_volumes(source: Source, max_voxels: int) -> VolumeSurvey:
    """Pair the files by their names, apply an official split, read every header and compare them case by case."""
    layout = find_volume_layout(source.members)
    found = VolumeSurvey(list(layout.pairs), faults=[*layout.faults, *layout.notes])
    found.faults += [Fault("duplicate_names", name, f"{n} times") for name, n in source.duplicates.items()]
    names = DatasetNames()
    if layout.json_file:
        names, faults = _names(source, layout.json_file)
        found.labels, found.faults = names.labels, found.faults + faults
        found.common_spacing_mm = names.common_spacing_mm
    if layout.classes_file:
        found.labels, faults = read_labels(source, layout.classes_file)
        found.faults += faults
    if layout.splits_file:
        found.pairs, faults = apply_splits(source, _undivided(found.pairs), layout.splits_file)
        found.faults += faults
    if found.pairs and all(pair.split in ("val", "test") for pair in found.pairs):
        found.faults += [Fault("splits_without_train", pair.image, str(pair.split)) for pair in found.pairs]
    for pair in found.pairs:
        _read_headers(source, found, pair, max_voxels)
    for pair in found.readable:
        if faults := list(_differences(found, pair)):
            found.unfit.add(pair.name)
            found.faults += faults
    found.faults += _other_channel_counts(found)
    found.modalities = _modalities(found, layout.modalities, names)
    return found


def _undivided(pairs: Sequence[Pair]) -> list[Pair]:
    """Cases whose folders all say "train" (imagesTr, because only those have masks) may be divided by a table."""
    alone = {pair.split for pair in pairs} == {"train"}
    return [replace(pair, split=None) for pair in pairs] if alone else list(pairs)


def _names(source: Source, file: str) -> tuple[DatasetNames, list[Fault]]:
    try:
        return read_dataset_json(source.read(file, MAX_TABLE_BYTES), file)
    except UnreadableScan as error:
        return DatasetNames(), [Fault("dataset_json_not_understood", file, reason(error, file))]


def _read_headers(source: Source, found: VolumeSurvey, pair: Pair, max_voxels: int) -> None:
    for path in (*pair.images, pair.mask):
        channels_allowed = path == pair.image and not pair.further_images and may_hold_channels(path)
        try:
            header = read_volume_header(opened(source, path, max_voxels), path)
            check_header(header, path, max_voxels, channels_allowed=channels_allowed)
        except UnreadableScan as error:
            found.faults.append(Fault(fault_code(error), path, reason(error, path)))
        except ScanTooLarge as error:
            found.faults.append(Fault("volume_too_large", path, reason(error, path)))
        else:
            found.headers[path] = header


def fault_code(error: UnreadableScan) -> str:
    """Which finding tells of a file that cannot be read."""
    words = {
        "a single slice": "volume_single_slice",
        "a fourth axis": "volume_fourth_axis",
        "not finite": "values_not_finite",
        "fractions": "volume_mask_fractions",
        "longer sides": "volume_too_small",
    }
    return next((code for word, code in words.items() if word in error.message), "volume_unreadable")


# --- one case -----------------------------------------------------------------------------------------------------


def _differences(found: VolumeSurvey, pair: Pair) -> Iterator[Fault]:
    """Where modalities and mask do not lie as the first image does."""
    first = found.headers[pair.image]
    for path in (*pair.further_images, pair.mask):
        other = found.headers[path]
        if other.shape != first.shape:
            yield Fault("volume_shapes_differ", path, f"{other.size}; {pair.image} is {first.size}")
        elif first.orientation and other.orientation and displacement(first, other) > MAX_DISPLACEMENT:
            yield Fault(
                "volume_affines_differ", path, f"{in_words(other.affine)}; {pair.image} {in_words(first.affine)}"
            )


def displacement(first: VolumeHeader, other: VolumeHeader) -> float:
    """How far corners of two volumes of one shape lie apart, at most, as a share of the voxel's shortest side."""
    ends = [(0, length - 1) for length in first.shape[::-1]]
    corners = np.array([(*corner, 1) for corner in np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3)]).T
    places = [one.unit_mm * (canonical_affine(one.affine, one.shape) @ corners)[:3] for one in (first, other)]
    apart = np.linalg.norm(places[0] - places[1], axis=0)
    sides = first.unit_mm * np.linalg.norm(first.affine[:3, :3], axis=0)
    return float(apart.max() / sides.min())


def in_words(affine: NDArray[np.float64]) -> str:
    """An affine on one line, without its last row: "[[1 0 0 -10] [0 1 0 5] [0 0 2 0]]"."""
    rows = (" ".join(f"{number:.4g}" for number in row) for row in affine[:3])
    return f"[{' '.join(f'[{row}]' for row in rows)}]"


# --- all cases ----------------------------------------------------------------------------------------------------


def _channels(found: VolumeSurvey, pair: Pair) -> int:
    return found.headers[pair.image].channels + len(pair.further_images)


def _other_channel_counts(found: VolumeSurvey) -> list[Fault]:
    """Cases whose fourth axis is not as long as that of most."""
    counts = [_channels(found, pair) for pair in found.readable]
    if len(set(counts)) < 2:
        return []
    usual = max(set(counts), key=counts.count)
    odd = [(pair, count) for pair, count in zip(found.readable, counts, strict=True) if count != usual]
    found.unfit.update(pair.name for pair, _ in odd)
    return [Fault("modalities_differ", pair.image, f"{count} channels; most cases: {usual}") for pair, count in odd]


def _modalities(found: VolumeSurvey, told: Sequence[str], names: DatasetNames) -> tuple[str, ...]:
    """What each channel is called; nothing where only numbers are known."""
    if not found.readable:
        return ()
    count = _channels(found, found.readable[0])
    given = [names.channels.get(channel, "") for channel in range(count)]
    if len(told) == count and not any(name.isdecimal() for name in told):
        return tuple(told)
    if len(told) == count:
        given = [names.channels.get(int(name), "") for name in told]
    return tuple(given) if all(given) else ()
