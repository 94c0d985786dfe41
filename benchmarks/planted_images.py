"""Faults of images: range, depth, alpha, exposure, sharpness, size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter
from planting import Planted, Scan, binary, clipped, each_channel, some

from octa_backend.data.scans import MaskPixels


def hot_pixels(scan: Scan, count: int, rng: np.random.Generator) -> Scan:
    deep = scan.image.astype(np.uint16) * 12
    height, width = deep.shape[1:]
    deep[:, rng.integers(0, height, count), rng.integers(0, width, count)] = 65535
    return replace(scan, image=deep)


def deep(scan: Scan, bits: int, _: np.random.Generator) -> Scan:
    return replace(scan, image=scan.image.astype(np.uint16) << (bits - 8))


def with_alpha(scan: Scan, kind: str, _: np.random.Generator) -> Scan:
    return replace(scan, alpha=kind)


def blank(scan: Scan, noise: float, rng: np.random.Generator) -> Scan:
    level = rng.integers(10, 240)
    return replace(scan, image=clipped(level + rng.normal(0, noise, scan.image.shape)))


def dark(scan: Scan, factor: float, _: np.random.Generator) -> Scan:
    return replace(scan, image=(scan.image * factor).astype(np.uint8))


def overexposed(scan: Scan, share: float, _: np.random.Generator) -> Scan:
    """Gain such that this share of the values is white."""
    top = max(1.0, float(np.quantile(scan.image, 1 - share)))
    return replace(scan, image=clipped(scan.image * (255 / top)))


def blurred(scan: Scan, sigma: float, _: np.random.Generator) -> Scan:
    return replace(scan, image=each_channel(scan.image, lambda one: one.filter(ImageFilter.GaussianBlur(sigma))))


def few_greys(scan: Scan, levels: int, _: np.random.Generator) -> Scan:
    """Posterised to a few levels between its own extremes; 0: the mask in place of the image."""
    if levels == 0:
        return replace(scan, image=np.broadcast_to(binary(scan), scan.image.shape).copy())
    low, high = float(scan.image.min()), float(scan.image.max())
    steps = np.rint((scan.image - low) / max(1.0, high - low) * (levels - 1)) / (levels - 1)
    return replace(scan, image=clipped(low + steps * (high - low)))


def few(scans: list[Scan], count: int, rng: np.random.Generator) -> Planted | None:
    if len(scans) < count:
        return None
    return Planted([scans[int(at)] for at in sorted(rng.choice(len(scans), count, replace=False))])


def some_resized(scans: list[Scan], factor: float, rng: np.random.Generator) -> Planted:
    chosen = set(some(scans, rng))
    return Planted([other_sizes(scan, factor, rng) if at in chosen else scan for at, scan in enumerate(scans)])


def other_sizes(scan: Scan, factor: float, _: np.random.Generator) -> Scan:
    size = [max(64, round(side * factor)) for side in scan.inside.shape[::-1]]
    image = each_channel(scan.image, lambda one: one.resize(size, Image.Resampling.BILINEAR))
    mask = np.asarray(Image.fromarray(binary(scan)).resize(size, Image.Resampling.NEAREST))
    return replace(scan, image=image, mask=MaskPixels(mask))
