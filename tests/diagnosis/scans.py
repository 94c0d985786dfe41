"""Scans for the tests of the checks: drawn, measured like an upload's, or with numbers of our own."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from octa_backend.data.examination import Examination
from octa_backend.data.masks import classes_of
from octa_backend.data.measuring import measure_image, measure_mask
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.scans import MaskPixels
from octa_backend.data.statistics import ScanStatistics
from octa_backend.data.synthetic import make_scan
from octa_backend.diagnosis.findings import Finding

SIDE = 96


@lru_cache(maxsize=64)
def drawn(seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Image, uint8 (H, W), and vessels, 0 and 255, of one synthetic scan."""
    made = make_scan(side, np.random.default_rng([7, seed]))
    return made.image, made.mask.astype(np.uint8) * np.uint8(255)


def coloured(rgb: np.ndarray) -> MaskPixels:
    """A decoded coloured mask."""
    colours = np.unique(rgb.reshape(-1, 3), axis=0)
    return MaskPixels(None, tuple(tuple(int(c) for c in colour) for colour in colours[:8]), len(colours), rgb)


def measured(
    name: str, image: np.ndarray, mask: np.ndarray | MaskPixels, *, alpha: str = "none", **facts: str | None
) -> ScanStatistics:
    """Statistics of an image, (H, W) or (H, W, 3), and its mask; `facts` are patient and split."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if isinstance(mask, np.ndarray):
        mask = coloured(mask) if mask.ndim == 3 else MaskPixels(mask)
    found = {"patient": None, "split": None, **facts}
    return ScanStatistics(
        name, f"images/{name}.png", f"masks/{name}.png", **found,
        of_image=measure_image(np.ascontiguousarray(planes), alpha),
        of_mask=measure_mask(mask, np.ascontiguousarray(planes)),
    )  # fmt: skip


def sound(count: int, side: int = SIDE) -> list[ScanStatistics]:
    """Scans that nothing is wrong with: s00, s01, …"""
    return [_sound(number, side) for number in range(count)]


@lru_cache(maxsize=256)
def _sound(number: int, side: int) -> ScanStatistics:
    return measured(f"s{number:02d}", *drawn(number, side))


def image_with(scan: ScanStatistics, **numbers) -> ScanStatistics:
    """The scan with other numbers of its image."""
    return replace(scan, of_image=replace(scan.of_image, **numbers))


def mask_with(scan: ScanStatistics, **numbers) -> ScanStatistics:
    """The scan with other numbers of its mask."""
    return replace(scan, of_mask=replace(scan.of_mask, **numbers))


def mask_values(scans: list[ScanStatistics]) -> tuple[int, ...]:
    """What the masks' values mean together."""
    plain = {scan.name: scan.of_mask.values for scan in scans if not scan.of_mask.colours}
    return classes_of(plain)[0] if plain else ()


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    """Findings by code; no code twice."""
    assert len({finding.code for finding in findings}) == len(findings)
    return {finding.code: finding for finding in findings}


def examination(scans: list[ScanStatistics], *faults: Fault) -> Examination:
    """What an upload of these scans shows."""
    pairs = tuple(Pair(scan.name, scan.image, scan.mask, scan.split) for scan in scans)
    return Examination(pairs, tuple(scans), faults, mask_values(scans), ())
