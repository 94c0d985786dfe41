"""Checks of masks against their images: whether they lie where they should, and belong to them at all."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from statistics import median

from octa_backend.data.alignment import GRID_SIDE
from octa_backend.data.statistics import ScanStatistics
from octa_backend.diagnosis.exposure import is_blank
from octa_backend.diagnosis.findings import MAX_SCANS, Finding, Severity, finding_about_files

Scans = Sequence[ScanStatistics]

LEAST_GRID = 48
"""Cells of the shorter side of the grid on which mask and image are compared; smaller scans are not judged."""

JUDGED_FOREGROUND = 0.001
"""Masks with less foreground, or less background, say too little to be judged against their image."""

SHIFTED_PIXELS, SHIFT_GAIN, SHIFTED_AGREEMENT = 3.0, 0.15, 7.0
"""A mask is misaligned if shifting it by more than so many pixels raises its agreement with the image by this share, to
at least the third number. Clean scans measured gain 0.02 at most; shifted by 6 pixels they gain 0.17 to 47. Clean scans
agree by 10 or more (of 64 x 64 pixels: 8), masks of other scans at their best shift by less than 6 in 99 %."""

UNRELATED_AGREEMENT, UNRELATED_MARGIN = 4.5, 2.0
"""A mask is unrelated to its image if its agreement is below the first number, and at its best shift not above it by
more than the second. Masks of other scans reach 4.0 as they lie."""

RELATED_AGREEMENT = 7.0
"""If the median of a dataset is above it, its masks do follow edges, and a mask that does not is suspicious."""

UNRELATED_SHARE = 0.25
"""In such a dataset less than this share of the median is suspicious too, up to `RELATED_AGREEMENT`: mirrored masks and
those of look-alike scans agree a little. The least of the clean scans measured has 0.55 of its set's median."""

CLEAR_AUC, SOME_AUC = 0.35, 0.1
"""A mask whose AUC differs from 0.5 by more is related to its image by intensity, if not by edges: the first number
where the other masks follow edges (masks of other scans reach 0.33 there), the second where they do not."""

NO_AUC = 0.05
"""Where masks follow no edges, as in magnetic resonance images of the hippocampus, intensity may still relate them to
their images: then the median AUC differs from 0.5 by more (there by 0.1), and nothing is said."""


def misaligned(scans: Scans) -> list[ScanStatistics]:
    """Scans whose mask would fit clearly better somewhere else."""
    return [scan for scan in _judged(scans) if _is_misaligned(scan)]


def _is_misaligned(scan: ScanStatistics) -> bool:
    mask = scan.of_mask
    return (
        hypot(*mask.shift) > SHIFTED_PIXELS
        and mask.shift_gain >= SHIFT_GAIN
        and mask.best_agreement >= SHIFTED_AGREEMENT
    )


def unrelated(scans: Scans) -> list[ScanStatistics]:
    """Scans whose mask follows neither the edges nor the intensity of its image."""
    judged = _judged(scans)
    if not judged:
        return []
    usual = median(scan.of_mask.edge_agreement for scan in judged)
    follow_edges = usual >= RELATED_AGREEMENT
    if not follow_edges and abs(median(_auc(scan) for scan in judged) - 0.5) > NO_AUC:
        return []
    enough = CLEAR_AUC if follow_edges else SOME_AUC
    threshold = max(UNRELATED_AGREEMENT, min(UNRELATED_SHARE * usual, RELATED_AGREEMENT))
    return [
        scan
        for scan in judged
        if scan.of_mask.edge_agreement < threshold
        and scan.of_mask.best_agreement < threshold + UNRELATED_MARGIN
        and abs(_auc(scan) - 0.5) < enough
    ]


def _auc(scan: ScanStatistics) -> float:
    return 0.5 if scan.of_mask.auc is None else scan.of_mask.auc


def _judged(scans: Scans) -> list[ScanStatistics]:
    """Scans large enough, with foreground and background enough, that show something."""
    return [
        scan
        for scan in scans
        if scan.of_mask.auc is not None
        and _shorter_grid_side(scan) >= LEAST_GRID
        and JUDGED_FOREGROUND <= scan.of_mask.foreground_fraction <= 1 - JUDGED_FOREGROUND
        and not is_blank(scan)
    ]


def _shorter_grid_side(scan: ScanStatistics) -> int:
    shape = scan.of_image.shape
    return min(shape) // -(-max(shape) // GRID_SIDE)


def examine_placement(scans: Scans) -> list[Finding]:
    """Whether masks lie on their images, and belong to them."""
    found = []
    if shifted := misaligned(scans):
        shifts = {scan.name: scan.of_mask.shift for scan in shifted}
        details = {name: f"{rows:+d}, {columns:+d}" for name, (rows, columns) in shifts.items()}
        furthest = max(hypot(*shift) for shift in shifts.values())
        found.append(
            finding_about_files(
                "mask_misaligned",
                Severity.WARNING,
                details,
                shifts={name: list(shifts[name]) for name in sorted(shifts)[:MAX_SCANS]},
                furthest_pixels=round(furthest, 1),
                threshold_pixels=SHIFTED_PIXELS,
            )
        )
    if strangers := unrelated(scans):
        details = {scan.name: f"AUC {_auc(scan):.2f}" for scan in strangers}
        found.append(finding_about_files("mask_unrelated", Severity.WARNING, details, total=len(scans)))
    return found
