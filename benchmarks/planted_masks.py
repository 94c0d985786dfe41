"""Faults of masks: values, colours, polarity, foreground, classes, place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from planting import Planted, Scan, binary, by_chance_split, some, through_jpeg, with_mask

from octa_backend.data.scans import MaskPixels


def smoothed(scan: Scan, how: str, _: np.random.Generator) -> Scan:
    kind, amount = how.split()
    picture = Image.fromarray(binary(scan))
    if kind == "jpeg":
        return with_mask(scan, through_jpeg(binary(scan), int(amount)))
    if kind == "blur":
        return with_mask(scan, np.asarray(picture.filter(ImageFilter.GaussianBlur(float(amount)))))
    small = [max(16, round(side * float(amount))) for side in picture.size]
    resized = picture.resize(small, Image.Resampling.BILINEAR).resize(picture.size, Image.Resampling.BILINEAR)
    return with_mask(scan, np.asarray(resized))


def grey_picture(scan: Scan, _: Any, __: np.random.Generator) -> Scan | None:
    """The image in place of its mask."""
    if scan.image.dtype != np.uint8:
        return None
    return with_mask(scan, scan.image.mean(axis=0).astype(np.uint8))


def coloured(scan: Scan, palette: str, _: np.random.Generator) -> Scan:
    """`palette`: background and foreground colours, and how they are saved: "#000080 #ff0000 jpeg"."""
    background, foreground, *how = palette.split()
    picture = Image.composite(
        Image.new("RGB", scan.inside.shape[::-1], foreground),
        Image.new("RGB", scan.inside.shape[::-1], background),
        Image.fromarray(binary(scan)),
    )
    if how == ["smooth"]:
        picture = picture.filter(ImageFilter.GaussianBlur(0.7))
    rgb = np.asarray(picture)
    if how == ["jpeg"]:
        rgb = through_jpeg(rgb, 85)
    return as_rgb(scan, rgb)


def classes_coloured(scan: Scan, colours: str, _: np.random.Generator) -> Scan:
    """Left and right half of the foreground in two colours on black."""
    left, right = (tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colours.split())
    rgb = np.zeros((*scan.inside.shape, 3), np.uint8)
    middle = scan.inside.shape[1] // 2
    rgb[:, :middle][scan.inside[:, :middle]] = left
    rgb[:, middle:][scan.inside[:, middle:]] = right
    return as_rgb(scan, rgb)


def as_rgb(scan: Scan, rgb: NDArray[np.uint8]) -> Scan:
    rgb = np.ascontiguousarray(rgb)
    different = np.unique(rgb.reshape(-1, 3), axis=0)
    named = tuple((int(r), int(g), int(b)) for r, g, b in different[:8])
    return replace(scan, mask=MaskPixels(None, named, len(different), rgb))


def inverted(scan: Scan, _: Any, __: np.random.Generator) -> Scan:
    return with_mask(scan, 255 - binary(scan))


def some_inverted(scans: list[Scan], share: float, rng: np.random.Generator) -> Planted | None:
    if len(scans) < 4:
        return None
    chosen = rng.choice(len(scans), min(20, max(1, int(share * len(scans)))), replace=False)
    names = frozenset(scans[int(at)].name for at in chosen)
    return Planted([inverted(scan, None, rng) if scan.name in names else scan for scan in scans], names)


def full(scan: Scan, _: Any, __: np.random.Generator) -> Scan:
    return with_mask(scan, np.full_like(binary(scan), 255))


def scarce(scan: Scan, share: float, _: np.random.Generator) -> Scan:
    """Foreground in a strip only, just wide enough for this share of the mask."""
    wanted = share * scan.inside.size
    columns = int(np.searchsorted(scan.inside.sum(axis=0).cumsum(), wanted)) + 1
    kept = binary(scan)
    kept[:, columns:] = 0
    return with_mask(scan, kept)


def two_classes(scan: Scan) -> Scan:
    """Foreground of the left half is class 1, of the right half class 2."""
    numbers = scan.inside.astype(np.uint8)
    numbers[:, scan.inside.shape[1] // 2 :] *= 2
    return with_mask(scan, numbers)


def without_class(scan: Scan, number: int) -> Scan:
    return with_mask(scan, np.where(scan.values == number, 0, scan.values).astype(np.uint8))


def missing_class(scans: list[Scan], split: str, rng: np.random.Generator) -> Planted | None:
    if len(scans) < 5:
        return None
    divided = by_chance_split([two_classes(scan) for scan in scans], rng)
    return Planted([without_class(scan, 2) if scan.split == split else scan for scan in divided])


def rare_class(scans: list[Scan], count: int, rng: np.random.Generator) -> Planted | None:
    """Class 2 in so many scans only."""
    if len(scans) <= 2 * count:
        return None
    kept = set(rng.choice(len(scans), count, replace=False).tolist())
    classes = [two_classes(scan) for scan in scans]
    return Planted(
        [scan if at in kept else without_class(scan, 2) for at, scan in enumerate(classes)],
        frozenset(classes[at].name for at in kept if (classes[at].values == 2).any()),
    )


def shifted(scan: Scan, pixels: float, rng: np.random.Generator) -> Scan:
    """Moved by so many pixels in a random direction; what comes in is background."""
    angle = rng.uniform(0, 2 * np.pi)
    down, right = round(pixels * np.sin(angle)), round(pixels * np.cos(angle))
    return with_mask(scan, moved(binary(scan), down, right))


def moved(plane: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    height, width = plane.shape
    result = np.zeros_like(plane)
    result[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = plane[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return result


def exchanged(scans: list[Scan], how: str, rng: np.random.Generator) -> Planted | None:
    """Masks of other scans of the same size: a few in a ring, or all."""
    chosen = list(range(len(scans))) if how == "all" else some(scans, rng)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for at in chosen:
        by_shape.setdefault(scans[at].inside.shape, []).append(at)
    changed = {}
    for those in by_shape.values():
        for at, other in zip(those, those[1:] + those[:1], strict=True):
            if at != other:
                changed[scans[at].name] = with_mask(scans[at], binary(scans[other]))
    if not changed:
        return None
    return Planted([changed.get(scan.name, scan) for scan in scans], frozenset(list(changed) if how != "all" else ()))


def turned(scan: Scan, how: str, _: np.random.Generator) -> Scan:
    mask = binary(scan)
    return with_mask(
        scan, mask[::-1] if how == "up_down" else mask[:, ::-1] if how == "left_right" else mask[::-1, ::-1]
    )
