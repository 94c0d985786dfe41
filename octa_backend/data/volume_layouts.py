"""Which file of an upload is a volume, which its mask, and which are modalities of one case: read from paths alone.

Understood are the layout of the Medical Segmentation Decathlon and of nnU-Net (`imagesTr`, `labelsTr`, `imagesTs`;
channels as `_0000`, `_0001`), a folder per case with its modalities and `_seg` (BraTS, with underscores or dashes), and
what `layouts` understands of pictures: folders for images and masks, splits around or inside them, words in names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from octa_backend.data.class_table import CLASS_TABLE
from octa_backend.data.layouts import (
    IMAGE_ENDINGS,
    OTHER_IMAGE_ENDINGS,
    SPLIT_FILES,
    VOLUME_ENDINGS,
    describe,
    role_of,
    sort_out,
)
from octa_backend.data.pairing import MASK_AFFIX, Fault, NamedFile, Pair, key, pair_up, without_affixes
from octa_backend.data.volume_files import STACK_ENDINGS, is_nifti

JSON_FILE = "dataset.json"

MODALITIES: Mapping[str, str] = {
    "flair": "flair", "t2f": "flair", "t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t1gd": "t1ce",
    "t2": "t2", "t2w": "t2",
}  # fmt: skip
"""What names of modalities mean, under their older names."""

MODALITY_ORDER = ("flair", "t1", "t1ce", "t2")
"""The order in which they become channels."""

_CHANNEL = re.compile(rf"^(?P<case>.+)[_\-](?P<what>\d{{4}}|{'|'.join(MODALITIES)})$", re.IGNORECASE)
_DECATHLON_IMAGES = re.compile(r"images?(?:tr|ts|va|val)", re.IGNORECASE)

Channel = tuple[int, str]
"""Place among the channels, and name: that of a modality, or its number as four digits."""


@dataclass(frozen=True, slots=True)
class VolumeLayout:
    """What the paths of an upload of volumes show.

    Attributes:
        pairs: the cases by name; only those whose image and mask are known.
        faults: what does not fit.
        notes: files that were passed over on purpose, as faults of harmless codes.
        modalities: names of the channels where the files' names tell them ("flair"), or their numbers ("0000"); empty
            where every case has one file.
        splits_file: the table of an official split, or None.
        classes_file: the table of names and colours of classes, or None.
        json_file: a `dataset.json`, or None.
    """

    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...]
    modalities: tuple[str, ...]
    splits_file: str | None
    classes_file: str | None
    json_file: str | None


def find_volume_layout(paths: Iterable[str]) -> VolumeLayout:
    """Tell images from masks and modalities from each other, and pair them.

    Args:
        paths: relative, with `/` between the parts, each once. Where none is NIfTI, TIFF files are volumes.
    """
    named = sorted(paths)
    stacks = not any(is_nifti(path) for path in named)
    kinds: dict[str, list[str]] = defaultdict(list)
    for path in named:
        kinds[_kind(path, stacks=stacks)].append(path)
    faults = [Fault(code, path) for code in ("volumes_not_supported", "format_not_supported") for path in kinds[code]]
    among, beside = _pictures(kinds["picture"], kinds["volume"])
    faults += [Fault("volumes_and_pictures_mixed", path) for path in among]
    images, masks, strays = sort_out(describe(kinds["volume"]))
    notes = [Fault("files_ignored", path) for path in (*kinds["other"], *beside, *(file.path for file in strays))]
    for kind in ("splits", "classes"):
        faults += [Fault(f"{kind}_not_understood", path, "a second table") for path in kinds[kind][1:]]
    cases, channels = _cases(images, masks)
    pairs: list[Pair] = []
    if cases and masks:
        pairs, unfit, passed_over = pair_up(cases, masks)
        unlabelled, unfit = _unlabelled(cases, masks, unfit)
        faults, notes = [*faults, *unfit], [*notes, *passed_over, *unlabelled]
    else:
        code = "masks_not_found" if cases else "images_not_found"
        faults += [Fault(code, file.path) for file in (*cases, *masks)] or [Fault(code, "")]
    pairs, modalities, missing = _with_channels(pairs, channels)
    tables = (next(iter(kinds[kind]), None) for kind in ("splits", "classes", "json"))
    return VolumeLayout(tuple(pairs), (*faults, *missing), tuple(notes), modalities, *tables)


def may_hold_channels(path: str) -> bool:
    """Whether a fourth axis of this image means channels: in the images folder of a Decathlon dataset."""
    return any(_DECATHLON_IMAGES.fullmatch(folder) for folder in path.split("/")[:-1])


def _kind(path: str, *, stacks: bool) -> str:
    lower = path.lower()
    name = lower.rsplit("/", 1)[-1]
    kinds = {
        "splits": name in SPLIT_FILES,
        "classes": name == CLASS_TABLE,
        "json": name == JSON_FILE,
        "volume": is_nifti(path) or (stacks and lower.endswith(STACK_ENDINGS)),
        "volumes_not_supported": lower.endswith(VOLUME_ENDINGS),
        "format_not_supported": lower.endswith(OTHER_IMAGE_ENDINGS),
        "picture": lower.endswith(IMAGE_ENDINGS),
    }
    return next((kind for kind, is_so in kinds.items() if is_so), "other")


def _pictures(pictures: Sequence[str], volumes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Pictures among the scans: beside a volume, or in a folder of images or masks; and the others."""
    folders = {path.rpartition("/")[0] for path in volumes if "/" in path}
    among = [
        path
        for path in pictures
        if path.rpartition("/")[0] in folders or any(role_of(folder) for folder in path.split("/")[:-1])
    ]
    return among, [path for path in pictures if path not in set(among)]


# --- modalities ---------------------------------------------------------------------------------------------------


def _cases(
    images: Sequence[NamedFile], masks: Sequence[NamedFile]
) -> tuple[list[NamedFile], dict[str, dict[Channel, str]]]:
    """One image for each case, and the paths of all its channels by that image's path.

    A number or a modality at the end of a name is a channel where the rest names a mask, or where several images share
    the rest and none of them is named by a mask itself: `case_0001` with a mask `case_0001` is a case.
    """
    labelled = {(mask.group, name) for mask in masks for name in _names_of(mask)}
    found: dict[tuple[tuple[str, ...], str], dict[Channel, NamedFile]] = defaultdict(dict)
    cases: list[NamedFile] = []
    for image in images:
        told = _CHANNEL.match(image.stem)
        if told is None or (image.group, key(image.stem)) in labelled:
            cases.append(image)
        else:
            found[image.group, key(told["case"])][_channel(told["what"])] = image
    channels: dict[str, dict[Channel, str]] = {}
    for place, files in found.items():
        if len(files) == 1 and place not in labelled:
            cases += files.values()
            continue
        first = files[min(files)]
        told = _CHANNEL.match(first.stem)
        assert told is not None
        cases.append(replace(first, stem=told["case"]))
        channels[first.path] = {channel: files[channel].path for channel in sorted(files)}
    return sorted(cases, key=lambda case: case.path), channels


def _names_of(mask: NamedFile) -> set[str]:
    return {key(mask.stem), without_affixes(mask.stem, MASK_AFFIX)}


def channel_of(stem: str) -> tuple[str, Channel] | None:
    """Which case a file's name without its ending is of, and which channel; None where it names no channel."""
    told = _CHANNEL.match(stem)
    return None if told is None else (told["case"], _channel(told["what"]))


def _channel(what: str) -> Channel:
    if what.isdecimal():
        return int(what), what
    modality = MODALITIES[what.casefold()]
    return MODALITY_ORDER.index(modality), modality


def _with_channels(
    pairs: Sequence[Pair], channels: Mapping[str, Mapping[Channel, str]]
) -> tuple[list[Pair], tuple[str, ...], list[Fault]]:
    """The pairs with all their channels, what these are called, and faults of cases that have other ones than most."""
    sets = Counter(tuple(channels.get(pair.image, ())) for pair in pairs)
    if not sets:
        return [], (), []
    usual = max(sets, key=lambda those: (sets[those], len(those)))
    full, faults = [], []
    for pair in pairs:
        mine = tuple(channels.get(pair.image, ()))
        if mine == usual:
            full.append(replace(pair, further_images=tuple(channels.get(pair.image, {}).values())[1:]))
        else:
            faults.append(Fault("modalities_differ", pair.image, f"{_listed(mine)}; most cases: {_listed(usual)}"))
    return full, tuple(name for _, name in usual), faults


def _listed(channels: Sequence[Channel]) -> str:
    return ", ".join(name for _, name in channels) or "one image"


# --- cases without a mask -----------------------------------------------------------------------------------------


def _unlabelled(
    cases: Sequence[NamedFile], masks: Sequence[NamedFile], faults: Sequence[Fault]
) -> tuple[list[Fault], list[Fault]]:
    """Images of a test or validation folder for which there are no masks at all are known to have none."""
    split_of = {case.path: case.split for case in cases}
    with_masks = {mask.split for mask in masks}
    meant = [
        fault
        for fault in faults
        if fault.code == "images_without_mask"
        and split_of[fault.file] in ("val", "test")
        and split_of[fault.file] not in with_masks
    ]
    notes = [Fault("volumes_unlabelled", fault.file) for fault in meant]
    return notes, [fault for fault in faults if fault not in meant]
