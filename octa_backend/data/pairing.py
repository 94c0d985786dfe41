"""Which mask belongs to which image: read from the stems of their names, from strict to lenient."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from octa_backend.data.stems import contradict, own_words, told_by


class Role(StrEnum):
    """What a folder's or file's name says its images are."""

    IMAGE = "image"
    MASK = "mask"


class Fault(NamedTuple):
    """One thing noticed about one file: the finding's code, the file, what was found in it, and further evidence."""

    code: str
    file: str
    found: str = ""
    evidence: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Pair:
    """One scan: its name in the dataset, the paths of its two files, and its official split, if any.

    Further images are the other modalities of a volume, in the order of their channels. A palette mask is to be read by
    colour where its indices are no classes; see `palette_order`.
    """

    name: str
    image: str
    mask: str
    split: str | None
    further_images: tuple[str, ...] = ()
    mask_by_colour: bool = False

    @property
    def images(self) -> tuple[str, ...]:
        """All images, channel by channel."""
        return self.image, *self.further_images


FIRST, NORMAL, LAST = 0, 1, 2
"""Ranks of several masks of one image: first grader's; any; second grader's or a field of view."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """What the path of one image file shows.

    Attributes:
        path: in the archive.
        stem: of the file's name.
        role: image or mask where its folders say so.
        split: "train", "val", "test" or None.
        place: the folders around it without the image or mask folder; split folders in one spelling.
        rank: which mask is taken where an image has several: the lowest.
    """

    path: str
    stem: str
    role: Role | None
    split: str | None
    place: tuple[str, ...]
    rank: int

    @property
    def group(self) -> tuple[str, ...]:
        """The place, for comparison."""
        return tuple(part.casefold() for part in self.place)


_SEPARATOR = r"[ _\-.]+"
_MASK_WORD = r"masks?|labels?|lbl|gt|ground[ _\-]?truth|segmentations?|seg|manual[ _\-]?\d?"
_MASK_END = (
    rf"{_MASK_WORD}|truth|annotations?|annot|targets?|vessels?|1st[ _\-]?(?:manual|ho)|2nd[ _\-]?(?:manual|ho)|fov|roi"
)
_IMAGE_WORD = r"images?|img|scan|octa|oct|original|orig|raw|input|fundus"
_IMAGE_END = rf"{_IMAGE_WORD}|training|train|testing|test|validation|val"


def _affix(front: str, end: str, whole: str) -> re.Pattern[str]:
    """A word in front or at the end of a stem, set off by a separator or a digit; or the whole stem."""
    return re.compile(
        rf"^(?:{front})(?:{_SEPARATOR}|(?=\d))|(?:{_SEPARATOR}|(?<=\d))(?:{end})$|^(?:{whole})$", re.IGNORECASE
    )


MASK_AFFIX = _affix(_MASK_WORD, _MASK_END, _MASK_END)
IMAGE_AFFIX = re.compile(_affix(_IMAGE_WORD, _IMAGE_END, _IMAGE_WORD).pattern + r"|_0000$", re.IGNORECASE)
_LEADING_NUMBER = re.compile(r"^\D*(\d+)")


def stem_of(path: str) -> str:
    """The name of a file without folders and without its ending: "a/b.nii.gz" -> "b"."""
    name = path.rsplit("/", 1)[-1]
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else name.rsplit(".", 1)[0]


def key(stem: str) -> str:
    """A stem for comparison: without regard to case."""
    return stem.casefold()


def without_affixes(stem: str, *affixes: re.Pattern[str]) -> str:
    """The key of a stem without the words of `affixes`: "01_manual1" -> "01"; "21_training_mask" -> "21"."""
    before = None
    while before != stem:
        before = stem
        for affix in affixes:
            stem = affix.sub("", stem, count=1)
    return key(stem)


def pair_up(images: Sequence[NamedFile], masks: Sequence[NamedFile]) -> tuple[list[Pair], list[Fault], list[Fault]]:
    """Give each mask to the image whose stem is most like its own, first in the same place, then anywhere.

    Returns:
        The pairs by name; what does not fit; and the masks that another mask of the same image outranks.
    """
    faults: list[Fault] = []
    owned: _Owned = defaultdict(list)
    left = list(masks)
    for near in (True, False):
        for image_key, mask_key in _LEVELS:
            left = _hand_out(images, left, (image_key, mask_key), near, owned, faults)
    left = _hand_out_by_number(images, masks, left, owned)
    faults += [Fault("masks_without_image", mask.path) for mask in left if mask.rank < LAST]
    passed_over = [Fault("masks_passed_over", mask.path) for mask in left if mask.rank == LAST]
    disputed = {fault.file for fault in faults}
    faults += [Fault("images_without_mask", i.path) for i in images if i not in owned and i.path not in disputed]
    chosen = [_choose(image, candidates, faults, passed_over) for image, candidates in owned.items()]
    return _named([pair for pair in chosen if pair]), faults, passed_over


_KeyOf = Callable[[str], str]
_Owned = defaultdict[NamedFile, list[NamedFile]]
# How the stems of an image and of its mask are made equal.
_LEVELS: Sequence[tuple[_KeyOf, _KeyOf]] = (
    (key, key),
    (key, lambda mask: without_affixes(mask, MASK_AFFIX)),
    (
        lambda image: without_affixes(image, IMAGE_AFFIX, MASK_AFFIX),
        lambda mask: without_affixes(mask, IMAGE_AFFIX, MASK_AFFIX),
    ),
)


def _hand_out(
    images: Sequence[NamedFile],
    masks: Sequence[NamedFile],
    keys: tuple[_KeyOf, _KeyOf],
    near: bool,
    owned: _Owned,
    faults: list[Fault],
) -> list[NamedFile]:
    """Give masks to images with the same key; returns the masks that found none."""
    image_key, mask_key = keys
    by_key: dict[tuple[str, tuple[str, ...]], list[NamedFile]] = defaultdict(list)
    for image in images:
        if near or image not in owned:
            by_key[image_key(image.stem), image.group if near else ()].append(image)
    taken: list[tuple[NamedFile, NamedFile]] = []
    left = []
    for mask in masks:
        found = by_key.get((mask_key(mask.stem), mask.group if near else ()), [])
        found = [image for image in found if image.split is None or mask.split in (None, image.split)]
        if len(found) > 1:
            faults.extend(Fault("pairing_ambiguous", image.path, mask.path) for image in found)
        elif found:
            taken.append((found[0], mask))
        else:
            left.append(mask)
    for image, mask in taken:
        owned[image].append(mask)
    return left


def _hand_out_by_number(
    images: Sequence[NamedFile], masks: Sequence[NamedFile], left: Sequence[NamedFile], owned: _Owned
) -> list[NamedFile]:
    """Pair what is left by the first number in the stem, where only one image and one mask of a place have it.

    Nothing else in the two stems may speak against it, see `_agreeing`: else visits, eyes and layers would be mixed up.
    """
    image_numbers = Counter(_number(image) for image in images)
    mask_numbers = Counter(_number(mask) for mask in masks)
    free = {_number(image): image for image in images if image not in owned}
    found = [
        (free[number], mask)
        for mask in left
        if (number := _number(mask)) in free and number[0] and image_numbers[number] == mask_numbers[number] == 1
    ]
    agreeing = _agreeing(found, owned)
    for image, mask in agreeing:
        owned[image].append(mask)
    taken = {mask for _, mask in agreeing}
    return [mask for mask in left if mask not in taken]


def _agreeing(
    found: Sequence[tuple[NamedFile, NamedFile]], owned: Collection[NamedFile]
) -> list[tuple[NamedFile, NamedFile]]:
    """Those pairs whose stems differ in nothing that tells scans apart.

    Stems that tell of two eyes, layers or further numbers are of two scans. Where each has words that the other lacks
    ("photo7" and "drawing7"), most pairs of the place must have the same ones.
    """
    told = {file: told_by(without_affixes(file.stem, IMAGE_AFFIX, MASK_AFFIX)) for pair in found for file in pair}
    words = {image: own_words(told[image], told[mask]) for image, mask in found}
    alike = Counter((image.group, words[image]) for image, _ in found)
    pairs = Counter(image.group for image in (*owned, *words))
    return [
        (image, mask)
        for image, mask in found
        if not contradict(told[image], told[mask])
        and (not all(words[image]) or 2 * alike[image.group, words[image]] > pairs[image.group])
    ]


def _number(file: NamedFile) -> tuple[str, tuple[str, ...]]:
    found = _LEADING_NUMBER.match(file.stem)
    return (found[1].lstrip("0") or "0") if found else "", file.group


def _choose(
    image: NamedFile, candidates: Sequence[NamedFile], faults: list[Fault], passed_over: list[Fault]
) -> tuple[NamedFile, NamedFile] | None:
    """The image with its mask of the lowest rank; None, and a fault, where two have it."""
    best = min(mask.rank for mask in candidates)
    passed_over.extend(Fault("masks_passed_over", mask.path) for mask in candidates if mask.rank > best)
    first, *others = [mask for mask in candidates if mask.rank == best]
    if others:
        faults.append(Fault("pairing_ambiguous", image.path, ", ".join(mask.path for mask in (first, *others))))
        return None
    return image, first


def _named(pairs: Sequence[tuple[NamedFile, NamedFile]]) -> list[Pair]:
    """Scans by name: the image's stem, with the folders around it where stems repeat."""
    stems = Counter(key(image.stem) for image, _ in pairs)
    longer = ["/".join((*image.place, image.stem)) for image, _ in pairs]
    repeated = Counter(key(name) for name in longer)
    scans = []
    for (image, mask), name in zip(pairs, longer, strict=True):
        whole = image.path.rsplit(".", 1)[0]
        unique = image.stem if stems[key(image.stem)] == 1 else name if repeated[key(name)] == 1 else whole
        scans.append(Pair(unique, image.path, mask.path, image.split or mask.split))
    return sorted(scans, key=lambda pair: pair.name)
