"""What splits should not share: copies of a scan, exact or nearly, and eyes of one patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from planted_images import other_sizes
from planted_masks import moved
from planting import Plant, Planted, Scan, binary, by_chance_split, clipped, some, through_jpeg, with_mask

from octa_backend.data.scans import MaskPixels


def copy_of(scan: Scan, how: str, rng: np.random.Generator) -> Scan:
    """The same image once more, exactly or nearly; its mask follows it where that matters."""
    kind, _, amount = how.partition(" ")
    image, mask = scan.image, binary(scan)
    match kind:
        case "jpeg":
            image = np.stack([through_jpeg(channel, int(amount)) for channel in image])
        case "bright":
            image = clipped(image * 0.8 + float(amount))
        case "contrast":
            image = clipped((image - image.mean()) * float(amount) + image.mean())
        case "noise":
            image = clipped(image + rng.normal(0, float(amount), image.shape))
        case "size":
            return other_sizes(scan, float(amount), rng)
        case "shift":
            down, right = (int(sign) * int(amount) for sign in rng.choice([-1, 1], 2))
            image = np.stack([moved(channel, down, right) for channel in image])
            mask = moved(mask, down, right)
        case "mirror":
            image, mask = image[:, :, ::-1], mask[:, ::-1]
    return replace(scan, image=np.ascontiguousarray(image), mask=MaskPixels(np.ascontiguousarray(mask)))


HOW_COPIED = (
    *("exact", "jpeg 40", "jpeg 75", "bright 30", "contrast 1.3", "noise 8"),
    *("size 0.5", "size 1.25", "shift 2", "shift 4", "mirror"),
)


def copied_within(scans: list[Scan], how: str, rng: np.random.Generator) -> Planted:
    chosen = some(scans, rng)
    extra = [replace(copy_of(scans[at], how, rng), name=f"{scans[at].name}~") for at in chosen]
    return Planted([*scans, *extra], frozenset(scan.name for scan in extra))


def copied_into(here: str, there: str) -> Plant:
    """Copies of scans of one split in another one."""

    def plant(scans: list[Scan], how: str, rng: np.random.Generator) -> Planted | None:
        divided = by_chance_split(scans, rng)
        sources = [scan for scan in divided if scan.split == here]
        if not sources:
            return None
        chosen = [sources[at] for at in some(sources, rng, 0.5)]
        extra = [replace(copy_of(scan, how, rng), name=f"{scan.name}~", split=there) for scan in chosen]
        kept_first = ("test", "val", "train")
        later = extra if kept_first.index(there) > kept_first.index(here) else chosen
        return Planted([*divided, *extra], frozenset(scan.name for scan in later))

    return plant


def copied_with_other_mask(scans: list[Scan], how: str, rng: np.random.Generator) -> Planted | None:
    if len(scans) < 2:
        return None
    extra = []
    for at in some(scans, rng):
        others = [scan for scan in scans if scan.inside.shape == scans[at].inside.shape and scan is not scans[at]]
        if others:
            other = others[int(rng.integers(len(others)))]
            extra.append(replace(with_mask(copy_of(scans[at], how, rng), binary(other)), name=f"{scans[at].name}~"))
    return Planted([*scans, *extra], frozenset(scan.name for scan in extra)) if extra else None


def torn_patients(scans: list[Scan], share: float, rng: np.random.Generator) -> Planted | None:
    """Two eyes per patient; this share of the patients has them in two splits."""
    if len(scans) < 4:
        return None
    named, expected = [], []
    for at in range(0, len(scans) - 1, 2):
        here, there = (str(split) for split in rng.choice(["train", "val", "test"], 2, replace=False))
        torn = at == 0 or rng.random() < share
        pair = (replace(scans[at], split=here), replace(scans[at + 1], split=there if torn else here))
        named += [replace(scan, patient=f"{at // 2}") for scan in pair]
        expected += [scan.name for scan in pair if torn]
    return Planted(named, frozenset(expected))
