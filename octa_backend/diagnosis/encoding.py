"""Checks of how images and masks are encoded: values, polarity, range, depth, alpha.

Each check has a selector, which names all scans concerned, and a finding made of it; `remedies` uses the selectors too.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from octa_backend.data.masks import classes_of, listed, spoilers
from octa_backend.data.statistics import ScanStatistics
from octa_backend.diagnosis.colours import map_together
from octa_backend.diagnosis.findings import Finding, Remedy, Severity, finding_about_files
from octa_backend.diagnosis.levels import level_map, levels_together, of_levels
from octa_backend.diagnosis.mask_greys import is_smoothed, pooled_histogram

Scans = Sequence[ScanStatistics]

CLEAR_AUC = 0.1
"""Intensity tells foreground from background if its AUC differs from 0.5 by this much; the vessels of fundus
photographs, the faintest of the sets measured, differ by 0.15."""

LEAST_INVERTED = 0.55
"""A mask that is inverted among others has at least so much foreground; nuclei, the densest of the sets measured, fill
0.41 at most."""

MANY_FOREGROUND = 0.80
"""Median foreground above which all masks may be inverted, if the foreground is the darker part. Neuronal membranes in
electron microscopy (ISBI 2012: cells are 0.78, and bright) are rightly below."""

MOST_FOREGROUND = 0.88
"""The same whatever the intensity says: inverted vessel masks have 0.83 to 0.94, their median 0.89 to 0.93."""

USED_RANGE = 0.1
"""Deeper images are normalised from their least to their greatest value. If 99 % of the pixels lie in less than a tenth
of that, a few hot pixels take the contrast of all others."""


def examine_encoding(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    """All findings about encoding."""
    return [
        *_masks_grey_levels(scans, mask_values),
        *_masks_not_binary(scans, mask_values),
        *_masks_coloured(scans),
        *_masks_inverted(scans, mask_values),
        *_range_compressed(scans),
        *_depths_mixed(scans),
        *_alpha(scans),
    ]


# --- values of masks ----------------------------------------------------------------------------------------------


def without_meaning(scans: Scans, mask_values: Sequence[int]) -> list[ScanStatistics]:
    """The scans whose masks keep the masks' values from making sense together; coloured masks stand aside."""
    plain = {scan.name: scan.of_mask.values for scan in scans if not scan.of_mask.colours}
    if mask_values or not plain:
        return []
    classes, faults = classes_of(plain)
    if classes or faults:
        return []
    offenders = set(spoilers(plain))
    return [scan for scan in scans if scan.name in offenders]


def can_binarize(scans: Scans) -> bool:
    """Whether two values is what the masks should have: no mask numbers several classes, none goes below 0."""
    plain = [scan.of_mask for scan in scans if not scan.of_mask.colours]
    return not any(
        mask.values.lowest[0] < 0 or (mask.histogram is None and not mask.values.is_two_valued) for mask in plain
    )


def _masks_not_binary(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    without = without_meaning(scans, mask_values)
    levelled = of_levels(without)
    offenders = [scan for scan in without if scan not in levelled]
    if not offenders:
        return []
    histogram = pooled_histogram(offenders)
    kind = "unequal" if not histogram.any() else "smoothed" if is_smoothed(histogram) else "grey"
    return [
        finding_about_files(
            "masks_not_binary",
            Severity.ERROR,
            {scan.name: listed(scan.of_mask.values) for scan in offenders},
            Remedy("binarize_masks") if can_binarize(scans) and not levelled else None,
            unique_values=max(scan.of_mask.values.count for scan in offenders),
            expected=2,
            kind=kind,
        )
    ]


def levels_as_classes(scans: Scans, mask_values: Sequence[int]) -> dict[str, int]:
    """The map that gives grey levels which look like classes their numbers; empty where there are none, or colours."""
    if any(scan.of_mask.colours for scan in scans) or not of_levels(without_meaning(scans, mask_values)):
        return {}
    return level_map([scan for scan in scans if scan.of_mask.counts])


def _masks_grey_levels(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    levelled = of_levels(without_meaning(scans, mask_values))
    if not levelled:
        return []
    mapped = levels_as_classes(scans, mask_values)
    levels = levels_together([scan for scan in scans if scan.of_mask.counts] if mapped else levelled)
    return [
        finding_about_files(
            "masks_grey_levels",
            Severity.ERROR,
            {scan.name: listed(scan.of_mask.values) for scan in levelled},
            Remedy("map_colours", {"colours": mapped}) if mapped else None,
            levels=levels,
            level_count=len(levels),
            table=", ".join(f"{level} → {number}" for number, level in enumerate(levels)),
        )
    ]


def _masks_coloured(scans: Scans) -> list[Finding]:
    coloured = [scan for scan in scans if scan.of_mask.colours]
    if not coloured:
        return []
    mapped = map_together([scan.of_mask for scan in scans])
    return [
        finding_about_files(
            "masks_coloured",
            Severity.ERROR,
            {scan.name: f"{scan.of_mask.colour_count}: {_first_colours(scan)}" for scan in coloured},
            Remedy("map_colours", {"colours": mapped}) if mapped else None,
            colours=list(mapped or [_named(colour) for colour, _ in coloured[0].of_mask.colours[:8]]),
            colour_count=max(scan.of_mask.colour_count for scan in coloured),
        )
    ]


def _first_colours(scan: ScanStatistics) -> str:
    named = ", ".join(_named(colour) for colour, _ in scan.of_mask.colours[:4])
    return named + (", …" if scan.of_mask.colour_count > 4 else "")


def _named(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


# --- polarity -----------------------------------------------------------------------------------------------------


def inverted_among_others(scans: Scans, mask_values: Sequence[int]) -> list[ScanStatistics]:
    """Masks of opposite polarity to most others, by their foreground and by the intensity inside: surely inverted.

    Most masks must agree on what is foreground, and their intensity must tell it; less than half can be inverted.
    """
    measured = _with_polarity(scans, mask_values)
    if len(measured) < 3:
        return []
    usual_foreground = median(scan.of_mask.foreground_fraction for scan, _ in measured)
    usual_auc = median(auc for _, auc in measured)
    if abs(usual_auc - 0.5) < CLEAR_AUC:
        return []
    dense = usual_foreground > 0.5
    return [
        scan
        for scan, auc in measured
        if abs(auc - 0.5) >= CLEAR_AUC
        and (auc > 0.5) != (usual_auc > 0.5)
        and _is_opposite(scan.of_mask.foreground_fraction, dense=dense)
    ]


def _is_opposite(foreground: float, *, dense: bool) -> bool:
    return foreground < 1 - LEAST_INVERTED if dense else foreground > LEAST_INVERTED


def all_inverted(scans: Scans, mask_values: Sequence[int]) -> list[ScanStatistics]:
    """All masks with more foreground than background, where background and foreground seem to be exchanged."""
    measured = _with_polarity(scans, mask_values)
    if not measured:
        return []
    usual_foreground = median(scan.of_mask.foreground_fraction for scan, _ in measured)
    is_dark = median(auc for _, auc in measured) < 0.5 - CLEAR_AUC
    if usual_foreground <= (MANY_FOREGROUND if is_dark else MOST_FOREGROUND):
        return []
    return [scan for scan, _ in measured if scan.of_mask.foreground_fraction > 0.5]


def _with_polarity(scans: Scans, mask_values: Sequence[int]) -> list[tuple[ScanStatistics, float]]:
    """Scans with the AUC of their mask; none where masks number several classes."""
    if len(mask_values) > 2:
        return []
    return [(scan, scan.of_mask.auc) for scan in scans if scan.of_mask.auc is not None]


def _masks_inverted(scans: Scans, mask_values: Sequence[int]) -> list[Finding]:
    for selector, severity in ((inverted_among_others, Severity.ERROR), (all_inverted, Severity.WARNING)):
        found = selector(scans, mask_values)
        if found:
            details = {scan.name: f"{scan.of_mask.foreground_fraction:.0%}" for scan in found}
            return [
                finding_about_files(
                    "masks_inverted",
                    severity,
                    details,
                    Remedy("invert_masks"),
                    median_foreground=round(median(s.of_mask.foreground_fraction for s in scans), 4),
                    median_auc=round(median(auc for _, auc in _with_polarity(scans, mask_values)), 4),
                    total=len(scans),
                )
            ]
    return []


# --- images -------------------------------------------------------------------------------------------------------


def is_compressed(scan: ScanStatistics) -> bool:
    """Whether a few extreme values take the range of a deeper image."""
    image = scan.of_image
    whole, used = image.high - image.low, image.robust_high - image.robust_low
    return image.dtype != "uint8" and whole > 0 and used < USED_RANGE * whole


def _range_compressed(scans: Scans) -> list[Finding]:
    details = {
        scan.name: f"{scan.of_image.robust_low:g}–{scan.of_image.robust_high:g} of "
        f"{scan.of_image.low:g}–{scan.of_image.high:g}"
        for scan in scans
        if is_compressed(scan)
    }
    if not details:
        return []
    return [finding_about_files("range_compressed", Severity.WARNING, details, threshold=USED_RANGE)]


def _depths_mixed(scans: Scans) -> list[Finding]:
    deep = {scan.name: scan.of_image.dtype for scan in scans if scan.of_image.dtype != "uint8"}
    if not deep or len(deep) == len(scans):
        return []
    return [finding_about_files("depths_mixed", Severity.WARNING, deep, total=len(scans))]


def _alpha(scans: Scans) -> list[Finding]:
    found = []
    for code, kind, severity in (
        ("alpha_varies", "varies", Severity.WARNING),
        ("alpha_constant", "constant", Severity.INFO),
    ):
        details = {scan.name: "" for scan in scans if scan.of_image.alpha == kind}
        if details:
            found.append(finding_about_files(code, severity, details, Remedy("drop_alpha")))
    return found
