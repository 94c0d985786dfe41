"""Which file is a scan, which is a mask, and which belong together: read from their paths alone.

Understood are an image folder beside a mask folder under many usual names, either one inside or around folders for
train, val and test, at any depth; and images beside their masks in one folder, told apart by a word in the name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from octa_backend.data.class_table import CLASS_TABLE
from octa_backend.data.pairing import (
    FIRST,
    IMAGE_AFFIX,
    LAST,
    MASK_AFFIX,
    NORMAL,
    Fault,
    NamedFile,
    Pair,
    Role,
    key,
    pair_up,
    stem_of,
    without_affixes,
)

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif")
NIFTI_ENDINGS = (".nii", ".nii.gz")
VOLUME_ENDINGS = (
    *(".img.gz", ".hdr.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".dcm", ".dicom"),
    *(".ima", ".e2e", ".fda", ".fds", ".czi", ".lif"),
)
OTHER_IMAGE_ENDINGS = (
    *(".webp", ".jp2", ".j2k", ".heic", ".heif", ".avif", ".psd", ".svg", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    *(".npy", ".npz", ".mat", ".h5", ".hdf5", ".pdf"),
)
SPLIT_FILES = ("splits.csv", "split.csv")
SPLIT_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trainset", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "ts"), "test"),
}
_PART_OF_A_NAME_ONLY = ("tr", "ts", "dev")
"""Split words that do not count as a folder's whole name, and inside a word ("imagesTr") only where it speaks of images
or masks: a folder "BraTS-GLI-00005-000" is a case."""

_STRONG_WORDS = (
    (Role.MASK, r"masks?|labels?|lbls?|gts?|(?:ground)?truths?|manuals?|manual\d|annot(?:ation)?s?|annotated"),
    (Role.MASK, r"segs?|segmentations?|segmented|targets?"),
    (Role.IMAGE, r"images?|imgs?|scans?|inputs?|pictures?|pics?|photos?"),
)
_WEAK_WORDS = (
    (Role.MASK, r"vessels?|y|1stho|2ndho|outputs?|fovs?|rois?"),
    (Role.IMAGE, r"x|raw|originals?|orig|octa|oct|fundus|enface"),
)
_TWO_WORDS = re.compile(r"ground[ _\-]+truth", re.IGNORECASE)

_FIRST_GRADER = re.compile(r"(?:^|[^a-z0-9])(?:1st|first)|manual", re.IGNORECASE)
_LAST_CHOICE = re.compile(
    r"(?:^|[^a-z0-9])(?:2nd|second)|manual[ _\-]?2|(?:^|[^a-z])(?:fov|roi)(?:[^a-z]|$)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the paths of an archive show.

    Attributes:
        pairs: the scans by name; only those whose two files are known.
        faults: what does not fit.
        notes: files that were passed over on purpose, as faults of harmless codes.
        images: every file that was taken for an image or a mask, paired or not.
        splits_file: the table of an official split, or None.
        classes_file: the table of names and colours of classes, or None.
    """

    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...]
    images: tuple[str, ...]
    splits_file: str | None
    classes_file: str | None = None


def find_layout(paths: Iterable[str]) -> Layout:
    """Tell images from masks and pair them.

    Args:
        paths: relative, with `/` between the parts, each once.
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        kinds[_kind(path)].append(path)
    unread = ("volumes_and_pictures_mixed", "volumes_not_supported", "format_not_supported")
    faults = [Fault(code, path) for code in unread for path in kinds[code]]
    images, masks, strays = sort_out(describe(kinds["image"]))
    notes = [Fault("files_ignored", path) for path in (*kinds["other"], *(file.path for file in strays))]
    for kind in ("splits", "classes"):
        faults += [Fault(f"{kind}_not_understood", path, "a second table") for path in kinds[kind][1:]]
    pairs: list[Pair] = []
    if images and masks:
        pairs, unfit, passed_over = pair_up(images, masks)
        faults, notes = [*faults, *unfit], [*notes, *passed_over]
    elif images or masks or not faults:
        code = "masks_not_found" if images and not _all_in_mask_folders(images) else "images_not_found"
        faults += [Fault(code, file.path) for file in (*images, *masks)] or [Fault(code, "")]
    used = tuple(file.path for file in (*images, *masks))
    tables = (next(iter(kinds[kind]), None) for kind in ("splits", "classes"))
    return Layout(tuple(pairs), tuple(faults), tuple(notes), used, *tables)


def _all_in_mask_folders(files: Sequence[NamedFile]) -> bool:
    """True where a folder around all files, which `describe` leaves out, is one for masks."""
    return all((2, Role.MASK) in map(role_of, file.path.split("/")[:-1]) for file in files)


def _kind(path: str) -> str:
    lower = path.lower()
    name = lower.rsplit("/", 1)[-1]
    if name in SPLIT_FILES or name == CLASS_TABLE:
        return "classes" if name == CLASS_TABLE else "splits"
    endings = {
        "volumes_and_pictures_mixed": NIFTI_ENDINGS,
        "volumes_not_supported": VOLUME_ENDINGS,
        "format_not_supported": OTHER_IMAGE_ENDINGS,
        "image": IMAGE_ENDINGS,
    }
    return next((kind for kind, those in endings.items() if lower.endswith(those)), "other")


def _words(folder: str) -> list[str]:
    """ "imagesTr" -> images, tr; "Ground truth" -> groundtruth; "1st_manual" -> 1st, manual."""
    joined = _TWO_WORDS.sub("groundtruth", folder)
    camel = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joined)
    words = (word.casefold() for spelling in (camel, joined) for word in re.split(r"[\W_]+", spelling) if word)
    return list(dict.fromkeys(words))


def role_of(folder: str) -> tuple[int, Role] | None:
    """What a folder's name says, and how strongly: "vessel_images" are images, "octa_masks" are masks."""
    words = _words(folder)
    for strength, table in ((2, _STRONG_WORDS), (1, _WEAK_WORDS)):
        for role, pattern in table:
            if any(re.fullmatch(pattern, word) for word in words):
                return strength, role
    return None


def _split(folder: str) -> str | None:
    words = _words(folder)
    apart = re.split(r"[\W_]+", folder.casefold())

    def counts(word: str) -> bool:
        return word not in _PART_OF_A_NAME_ONLY or (len(words) > 1 and (word in apart or role_of(folder) is not None))

    known = [word for word in words if word in SPLIT_WORDS and counts(word)]
    return SPLIT_WORDS[known[0]] if known else None


def describe(paths: Sequence[str]) -> list[NamedFile]:
    """Read every path, without the folders that are around all of them."""
    folders = [path.split("/")[:-1] for path in paths]
    wrapped = 0
    while folders and all(len(parts) > wrapped and parts[wrapped] == folders[0][wrapped] for parts in folders):
        wrapped += 1
    return [_describe_one(path, parts[wrapped:]) for path, parts in zip(paths, folders, strict=True)]


def _describe_one(path: str, folders: Sequence[str]) -> NamedFile:
    stem = stem_of(path)
    roles = {at: found for at, folder in enumerate(folders) if (found := role_of(folder))}
    decisive = max(roles, key=lambda at: (roles[at][0], at), default=None)  # the strongest, then the deepest
    splits = [_split(folder) for folder in folders]
    place = [split or folder for folder, split in zip(folders, splits, strict=True)]
    if decisive is not None and not splits[decisive]:
        del place[decisive]
    told = stem if decisive is None else f"{folders[decisive]}/{stem}"
    return NamedFile(
        path=path,
        stem=stem,
        role=None if decisive is None else roles[decisive][1],
        split=next((split for split in reversed(splits) if split), None),
        place=tuple(place),
        rank=LAST if _LAST_CHOICE.search(told) else FIRST if _FIRST_GRADER.search(told) else NORMAL,
    )


def sort_out(files: Sequence[NamedFile]) -> tuple[list[NamedFile], list[NamedFile], list[NamedFile]]:
    """Images, masks, and strays: files outside of the image and mask folders, where there are such folders."""
    folders_tell = {Role.IMAGE, Role.MASK} <= {file.role for file in files}
    images, masks, strays = [], [], []
    beside = {(_folder(file), name) for file in files for name in _image_names(file)}
    for file in files:
        named_mask = bool(MASK_AFFIX.search(file.stem))
        has_image = named_mask and (_folder(file), without_affixes(file.stem, MASK_AFFIX)) in beside
        if file.role is Role.MASK or has_image or (named_mask and file.role is None):
            masks.append(replace(file, role=Role.MASK))
        elif file.role is None and folders_tell:
            strays.append(file)
        else:
            images.append(file)
    return images, masks, strays


def _image_names(file: NamedFile) -> tuple[str, ...]:
    """What the mask of this file would be called, were its mask words stripped."""
    if MASK_AFFIX.search(file.stem):
        return ()
    return key(file.stem), without_affixes(file.stem, IMAGE_AFFIX)


def _folder(file: NamedFile) -> str:
    return file.path.rpartition("/")[0].casefold()
