"""Cases without masks: which files are one case, in which order its modalities become channels, and what they hold."""

# Shapes: C channels, D x H x W voxels.

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from octa_backend.data.examination import Source as Files
from octa_backend.data.layouts import role_of
from octa_backend.data.pairing import MASK_AFFIX, Role, stem_of
from octa_backend.data.volume_files import (
    STACK_ENDINGS,
    Source,
    Volume,
    VolumeHeader,
    check_header,
    is_nifti,
    read_volume,
    read_volume_header,
)
from octa_backend.data.volume_geometry import Box
from octa_backend.data.volume_layouts import MODALITIES, Channel, channel_of
from octa_backend.data.volume_measuring import content_box
from octa_backend.data.volume_survey import MAX_DISPLACEMENT, displacement, in_words
from octa_backend.data.volume_viewing import stacked
from octa_backend.errors import InvalidArchive, ScanDoesNotFit, ScanTooLarge

Opened = Callable[[str], Source]
"""Gives the content of a file by its name."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels that a model was trained on, and what they are called: nothing where only numbers are known."""

    count: int
    names: tuple[str, ...] = ()

    def called(self, index: int) -> str:
        """One channel in words: "0001 (t1)"."""
        return f"{index:04d} ({self.names[index]})" if self.names else f"{index:04d}"

    @property
    def listed(self) -> str:
        """All of them."""
        return ", ".join(self.called(index) for index in range(self.count))


@dataclass(frozen=True, slots=True)
class Case:
    """The files of one case: one for each channel, in their order, or a single one that holds them all."""

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaseImage:
    """What the files of a case hold.

    Attributes:
        values: (C, D, H, W); uint8, uint16 or float32.
        volume: the first file's, for how it lies in space.
        header: likewise.
    """

    values: NDArray[Any]
    volume: Volume
    header: VolumeHeader


def is_volume(name: str) -> bool:
    """Whether a file's name says that it may hold a volume."""
    return is_nifti(name) or name.lower().endswith(STACK_ENDINGS)


def volumes_among(paths: Iterable[str]) -> list[str]:
    """The images of volumes in a folder or a zip: not what names or folders say to be masks.

    Where none is NIfTI, TIFF files are volumes.
    """
    every = sorted(paths)
    of_kind = [path for path in every if is_nifti(path)] or [path for path in every if is_volume(path)]
    return [path for path in of_kind if not _is_mask(path)]


def cases_among(source: Files, channels: Channels, name: str) -> list[Case]:
    """The cases of a folder or a zip; `name` is what it is called in messages.

    Raises:
        InvalidArchive: there is none.
        ScanDoesNotFit: see `find_cases`.
    """
    cases = find_cases(volumes_among(source.members), channels)
    if not cases:
        raise InvalidArchive(f"{name} holds no volume; its names should end in .nii.gz, .nii or .tif")
    return cases


def find_cases(files: Sequence[str], channels: Channels) -> list[Case]:
    """The cases that files belong to, by their names alone.

    A model of one channel takes each file as a case. One of several takes the files of one folder whose names differ
    only in a number or a modality at their end as one, and likewise those that are called by nothing else, which are
    the case that their folder names (`p1/flair.nii.gz`). Files without such an ending must hold all channels
    themselves; both ways are not taken together.

    Args:
        files: names or paths.
        channels: of the model.

    Raises:
        ScanDoesNotFit: a file is no volume, or there twice; a case lacks a modality, or has one that the model does not
            know; or the cases come in both ways.
    """
    if twice := [file for file, times in Counter(files).items() if times > 1]:
        raise ScanDoesNotFit(f"two files are called {twice[0]}; give each its own name")
    for file in files:
        if not is_volume(file):
            raise ScanDoesNotFit(
                f"{file} is no volume, but the model was trained on volumes; send .nii, .nii.gz or a TIFF stack"
            )
    parts: dict[tuple[str, str], dict[Channel, str]] = defaultdict(dict)
    alone: list[str] = []
    for file in files:
        told = _case_and_channel(file)
        if told is None:
            alone.append(file)
            continue
        of_case = parts[file.rpartition("/")[0], told[0]]
        if (other := of_case.get(told[1])) is not None:
            raise ScanDoesNotFit(f"{file} and {other} are the same modality of case {told[0]}; send one of them")
        of_case[told[1]] = file
    cases = [Case(stem_of(file), (file,)) for file in alone]
    for (_, name), found in parts.items():
        if channels.count == 1:
            cases += _of_one_channel(name, found, channels)
        else:
            cases.append(Case(name, _in_order(name, found, channels)))
    if alone and len(cases) > len(alone) and channels.count > 1:
        other = next(case.files[0] for case in cases if len(case.files) > 1)
        raise ScanDoesNotFit(
            f"{alone[0]} names no modality, but {other} does; the model was trained on {channels.listed}: send each "
            "case as a file for each of them, or each as one file that holds them all"
        )
    return sorted(cases, key=lambda case: case.files)


def _case_and_channel(file: str) -> tuple[str, Channel] | None:
    """Which case a file is of, and which channel: by the end of its name, or by its folder and all of its name."""
    folder = file.rpartition("/")[0].rpartition("/")[2]
    stem = stem_of(file)
    return channel_of(stem) or (channel_of(f"{folder}_{stem}") if folder else None)


def _of_one_channel(case: str, found: Mapping[Channel, str], channels: Channels) -> list[Case]:
    """Each file as a case; numbers at the end may count cases, but modalities cannot."""
    named = [file for (_, name), file in found.items() if not name.isdecimal()]
    if len(named) > 1:
        raise ScanDoesNotFit(
            f"{named[0]} and {named[1]} are two modalities of case {case}, but the model was trained on one: "
            f"{channels.listed}; send one of them"
        )
    is_folder = {file: channel_of(stem_of(file)) is None for file in found.values()}
    return [
        Case(case if name == "0000" or (is_folder[file] and len(found) == 1) else stem_of(file), (file,))
        for (_, name), file in found.items()
    ]


def read_case(case: Case, opened: Opened, channels: Channels, max_voxels: int) -> CaseImage:
    """Decode the files of a case.

    Raises:
        UnreadableScan, ScanTooLarge: see `read_volume`; `max_voxels` are of all channels together.
        ScanDoesNotFit: the files lie differently, or hold another number of channels than the model has.
    """
    several = channels.count > 1 and len(case.files) == 1
    headers = [read_volume_header(opened(file), file) for file in case.files]
    for file, header in zip(case.files, headers, strict=True):
        check_header(header, file, max_voxels, channels_allowed=several)
        _check_place(case.files[0], headers[0], file, header)
    if (found := sum(header.channels for header in headers)) != channels.count:
        raise ScanDoesNotFit(
            f"{case.files[0]} has {found} channel{'s' if found > 1 else ''}, the model was trained on "
            f"{channels.count}: {channels.listed}; send one file for each, with such an ending to its name"
        )
    if headers[0].voxels * channels.count > max_voxels:
        raise ScanTooLarge(
            f"{case.name} is {headers[0].size} of {channels.count} channels, {max_voxels:,} voxels are allowed; send a "
            "part of it"
        )
    volumes = [read_volume(opened(file), file, max_voxels, channels_allowed=several) for file in case.files]
    return CaseImage(stacked([volume.values for volume in volumes]), volumes[0], headers[0])


def content_of(values: NDArray[Any]) -> Box | None:
    """The smallest box around what is not 0 in one of the channels of (C, D, H, W); None where nothing is."""
    there = values[0] != 0
    for channel in values[1:]:
        there |= channel != 0
    return content_box(there)


def check_lies_as(case: CaseImage, name: str, file: str, header: VolumeHeader) -> None:
    """Refuse a file, such as a mask, that does not lie as a case does.

    Raises:
        ScanDoesNotFit: it has another size, or lies elsewhere.
    """
    _check_place(name, case.header, file, header)


def _check_place(first: str, first_header: VolumeHeader, file: str, header: VolumeHeader) -> None:
    if header.shape != first_header.shape:
        raise ScanDoesNotFit(f"{file} is {header.size} but {first} is {first_header.size}; they must be of one grid")
    knows = bool(first_header.orientation and header.orientation)
    if knows and displacement(first_header, header) > MAX_DISPLACEMENT:
        raise ScanDoesNotFit(
            f"{file} lies elsewhere than {first}: their affines are {in_words(header.affine)} and "
            f"{in_words(first_header.affine)}; bring both to one grid"
        )


def _in_order(case: str, found: Mapping[Channel, str], channels: Channels) -> tuple[str, ...]:
    """The files of a case, channel by channel."""
    if all(name.isdecimal() for _, name in found):
        places = {place: file for (place, _), file in found.items()}
    else:
        known = [MODALITIES.get(name.casefold(), name.casefold()) for name in channels.names]
        unknown = [file for (_, name), file in found.items() if name not in known]
        if unknown:
            raise ScanDoesNotFit(
                f"{unknown[0]}: the model has no such modality; it was trained on {channels.listed}; end the names "
                "with these numbers"
            )
        places = {known.index(name): file for (_, name), file in found.items()}
    missing = [channels.called(index) for index in range(channels.count) if index not in places]
    if missing:
        raise ScanDoesNotFit(
            f"case {case} lacks {', '.join(missing)}; {', '.join(sorted(found.values()))} came, the model was trained "
            f"on {channels.listed}, and needs a file for each"
        )
    if more := [file for place, file in places.items() if place >= channels.count]:
        raise ScanDoesNotFit(f"{more[0]} is one modality too many; the model was trained on {channels.listed}")
    return tuple(places[index] for index in range(channels.count))


def _is_mask(path: str) -> bool:
    roles = (role_of(folder) for folder in path.split("/")[:-1])
    return MASK_AFFIX.search(stem_of(path)) is not None or any(
        role is not None and role[1] is Role.MASK for role in roles
    )
