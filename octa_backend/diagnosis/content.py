"""Checks of what scans and masks show: foreground, classes, sizes, number; with those of `exposure` and `placement`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from octa_backend.data.masks import VOID_VALUE
from octa_backend.data.statistics import KnownScan, ScanStatistics
from octa_backend.diagnosis.exposure import examine_exposure
from octa_backend.diagnosis.findings import MAX_SCANS, Finding, Remedy, Severity, finding_about_files
from octa_backend.diagnosis.placement import examine_placement

Scans = Sequence[ScanStatistics]
Known = Sequence[KnownScan]

SCARCE_FOREGROUND, TOO_SCARCE_FOREGROUND = 0.02, 0.005
"""Mean foreground for a warning and an error: with 0.5 % an all-background prediction has a cross-entropy so low that
training settles there (vessel sets have 7 to 15 %)."""

MAX_POS_WEIGHT = 10_000.0
"""The bound of `TrainConfig.pos_weight`."""

RARE_CLASS_SCANS = 3
"""A class in fewer scans cannot be trained, validated and tested."""

FEW_SCANS = 50
"""Below it the smaller network generalises better: it has 8.5 instead of 31.4 million parameters."""

EXTREME_ASPECT = 3.0
"""Longer over shorter side."""


TOWARDS_DICE = Remedy("loss", {"dice_weight": 0.7, "bce_weight": 0.3})
"""The Dice loss weighs every class alike, however small; the cross-entropy weighs every pixel alike."""


def examine_content(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    """All findings about content."""
    return [
        *examine_exposure(scans),
        *_foreground(scans, mask_values),
        *_classes(scans, mask_values),
        *examine_placement(scans),
        *_sizes(scans),
        *_few(scans),
    ]


# --- foreground ---------------------------------------------------------------------------------------------------


def full_masks(scans: Scans, mask_values: Sequence[int]) -> list[ScanStatistics]:
    """Binary masks without background, among others that have some."""
    if len(mask_values) > 2:
        return []
    full = [scan for scan in _plain(scans) if scan.of_mask.foreground_fraction == 1]
    return full if len(full) < len(_plain(scans)) else []


def _plain(scans: Scans) -> list[ScanStatistics]:
    return [scan for scan in scans if not scan.of_mask.colours]


def _foreground(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    found = []
    if full := full_masks(scans, mask_values):
        details = {scan.name: "" for scan in full}
        found.append(finding_about_files("masks_full", Severity.WARNING, details, Remedy("drop_unusable")))
    plain = _plain(scans)
    mean = fmean(scan.of_mask.foreground_fraction for scan in plain) if plain else 0.0
    if 0 < mean < SCARCE_FOREGROUND:
        found.append(_scarce(plain, mean, is_binary=len(mask_values) <= 2))
    return found


def _scarce(scans: Scans, mean: float, *, is_binary: bool) -> Finding:
    weight = min(MAX_POS_WEIGHT, round((1 - mean) / mean, 1))
    least = sorted(scans, key=lambda scan: (scan.of_mask.foreground_fraction, scan.name))[:MAX_SCANS]
    return Finding(
        "foreground_scarce",
        Severity.ERROR if mean < TOO_SCARCE_FOREGROUND else Severity.WARNING,
        {
            "mean_foreground": round(mean, 6),
            "percent": f"{100 * mean:.2f}",
            "threshold_percent": f"{100 * SCARCE_FOREGROUND:g}",
            "ratio": weight,
            "files": {scan.name: f"{scan.of_mask.foreground_fraction:.2%}" for scan in least},
            "count": len(scans),
        },
        tuple(scan.name for scan in least),
        remedy=Remedy("pos_weight", {"pos_weight": weight}) if is_binary else TOWARDS_DICE,
    )


# --- classes ------------------------------------------------------------------------------------------------------


def _classes(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    """What is there of each class; binary masks with 0/1, 0/255 and 0/65535 have the same one."""
    if len(mask_values) < 2:
        return []
    binary = len(mask_values) == 2
    scans_of: dict[int, list[ScanStatistics]] = {value: [] for value in mask_values[1:]}
    for scan in _plain(scans):
        for value in {mask_values[1] if binary else value for value, _ in scan.of_mask.counts if value != 0}:
            scans_of.setdefault(value, []).append(scan)
    return [*_void(_plain(scans), mask_values), *missing_in_split(scans, scans_of), *rare_classes(scans, scans_of)]


def _void(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    if len(mask_values) < 3 or mask_values[-1] != VOID_VALUE:
        return []
    areas = {scan.name: dict(scan.of_mask.counts) for scan in scans}
    there = [name for name, counts in areas.items() if VOID_VALUE in counts]
    total = sum(sum(counts.values()) for counts in areas.values())
    evidence = {
        "value": VOID_VALUE,
        "class": len(mask_values) - 1,
        "percent": f"{100 * sum(areas[name][VOID_VALUE] for name in there) / total:.2f}",
        "count": len(there),
    }
    remedy = Remedy("ignore_index", {"ignore_index": len(mask_values) - 1})
    return [Finding("void_class", Severity.WARNING, evidence, tuple(there[:MAX_SCANS]), remedy=remedy)]


def missing_in_split(scans: Known, scans_of: Mapping[int, Known]) -> list[Finding]:
    """Classes that a split has no scan of; `scans_of` has the scans of each value."""
    splits = {scan.split or "train" for scan in scans if any(other.split for other in scans)}
    missing = {
        f"{value}": ", ".join(sorted(splits - {scan.split or "train" for scan in there}))
        for value, there in scans_of.items()
        if there and splits - {scan.split or "train" for scan in there}
    }
    if not missing:
        return []
    example = ", ".join(f"{value} ({where})" for value, where in list(missing.items())[:5])
    evidence = {"classes": missing, "class_count": len(missing), "example": example}
    return [Finding("class_missing_in_split", Severity.WARNING, evidence)]


def rare_classes(scans: Known, scans_of: Mapping[int, Known]) -> list[Finding]:
    """Classes in very few scans of many: in a set of a handful of scans all are in few."""
    rare = {
        value: [scan.name for scan in there]
        for value, there in scans_of.items()
        if len(there) < RARE_CLASS_SCANS and 2 * len(there) < len(scans)
    }
    if not rare:
        return []
    evidence = {
        "classes": {f"{value}": len(names) for value, names in rare.items()},
        "class_count": len(rare),
        "example": ", ".join(f"{value} ({len(names)})" for value, names in list(rare.items())[:5]),
        "threshold": RARE_CLASS_SCANS,
    }
    names = tuple(dict.fromkeys(name for names in rare.values() for name in names))[:MAX_SCANS]
    return [Finding("class_rare", Severity.WARNING, evidence, names, remedy=TOWARDS_DICE)]


# --- the whole dataset --------------------------------------------------------------------------------------------


def _sizes(scans: Scans) -> list[Finding]:
    sizes = Counter(f"{width}×{height}" for height, width in (scan.of_image.shape for scan in scans))
    extreme = [scan for scan in scans if max(scan.of_image.shape) > EXTREME_ASPECT * min(scan.of_image.shape)]
    if len(sizes) < 2 and not extreme:
        return []
    common = ", ".join(f"{size} ({count})" for size, count in sizes.most_common(5))
    evidence = {
        "sizes": dict(sizes.most_common(20)),
        "size_count": len(sizes),
        "common": common + (", …" if len(sizes) > 5 else ""),
        "extreme": len(extreme),
    }
    return [Finding("sizes_vary", Severity.INFO, evidence, tuple(scan.name for scan in extreme[:MAX_SCANS]))]


def _few(scans: Scans) -> list[Finding]:
    if not 0 < len(scans) < FEW_SCANS:
        return []
    evidence = {"scan_count": len(scans), "threshold": FEW_SCANS}
    return [Finding("few_scans", Severity.WARNING, evidence, remedy=Remedy("model", {"model": "unet"}))]
