"""Checks of the images alone: whether they show something, are well exposed, and sharp.

`faulty_images` names all scans concerned; the findings and `remedies` are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from octa_backend.data.statistics import ImageStatistics, ScanStatistics
from octa_backend.diagnosis.findings import Finding, Remedy, Severity, finding_about_files

Scans = Sequence[ScanStatistics]
Rule = Callable[[ScanStatistics], bool]

BLANK_RANGE = 8.0
"""Grey levels between the 0.5 and 99.5 percentiles of an 8-bit image below which it shows nothing. The faintest image
of the sets measured, of nuclei, spans 23."""

BLANK_TEXTURE, BLANK_NOISE_RANGE = 1.0, 40.0
"""An image of so small a range whose 32 x 32 area means differ by less (standard deviation, in grey levels) is noise.
The smoothest image of the sets measured has 4.4."""

DARK_AGAINST_OTHERS = 0.2
"""An 8-bit image is dark if mean and 99.5 percentile are both below this share of the dataset's medians. The darkest of
the sets measured have 0.24 and 0.26."""

DARK_ANYWHERE = 16.0
"""A 99.5 percentile (of 255) that is dark whatever the others are; the darkest of the sets measured has 26."""

OVEREXPOSED_SHARE = 0.2
"""Share of values at 98 % of the range or more; the brightest scan of the sets measured has 0.08. In sets whose usual
scan has a third of this the white is the background, as in brightfield microscopy."""

BLURRED_AGAINST_OTHERS, BLURRED_AT_MOST = 0.055, 0.02
"""A scan is blurred if its sharpness is below this share of the dataset's median, and below the second number. Clean
scans have 0.08 of their set's median or more; after a Gaussian blur of 3 pixels they have 0.05 or less."""

BLURRED_ANYWHERE = 0.0004
"""A sharpness that is blurred whatever the others are; the least of the sets measured is 0.0044."""

LOW_ENTROPY_BITS = 1.2
"""Below it an image has the information of two or three grey levels; the least of the sets measured is 2.0 bits."""

LOW_ENTROPY_AGAINST_OTHERS, LOW_ENTROPY_AT_MOST_BITS = 0.4, 3.0
"""The same, relative to the dataset's median, and at most so many bits."""


def blank(scans: Scans) -> list[ScanStatistics]:
    """Scans that show nothing."""
    return [scan for scan in scans if is_blank(scan)]


def is_blank(scan: ScanStatistics) -> bool:
    """Whether an image is constant, or nothing but noise."""
    image = scan.of_image
    used = image.robust_high - image.robust_low
    if used <= 0 or image.dtype != "uint8":
        return used <= 0
    return used < BLANK_RANGE or (used < BLANK_NOISE_RANGE and float(image.thumbnail.std()) < BLANK_TEXTURE)


def faulty_images(scans: Scans) -> dict[str, list[ScanStatistics]]:
    """Code -> scans. Of blank scans nothing else is said, of dark ones not that they have few grey levels; and only
    where nothing else is wrong, that a scan is blurred.
    """
    found: dict[str, list[ScanStatistics]] = {"scans_blank": blank(scans)}
    shown = [scan for scan in scans if not is_blank(scan)]
    if shown:
        dark, bright = _dark_rule(shown), _overexposed_rule(shown)
        poor, soft = _low_information_rule(shown), _blurred_rule(shown)
        found["scans_dark"] = [scan for scan in shown if dark(scan)]
        found["scans_overexposed"] = [scan for scan in shown if bright(scan)]
        found["scans_low_information"] = [scan for scan in shown if poor(scan) and not dark(scan)]
        found["scans_blurred"] = [
            scan for scan in shown if soft(scan) and not (dark(scan) or bright(scan) or poor(scan))
        ]
    return found


def _dark_rule(scans: Scans) -> Rule:
    eight_bit = [scan.of_image for scan in scans if scan.of_image.dtype == "uint8"]
    if not eight_bit:
        return lambda _: False
    usual_mean = median(image.mean for image in eight_bit)
    usual_high = median(image.robust_high for image in eight_bit)

    def is_dark(scan: ScanStatistics) -> bool:
        image = scan.of_image
        among_others = (
            image.mean < DARK_AGAINST_OTHERS * usual_mean and image.robust_high < DARK_AGAINST_OTHERS * usual_high
        )
        return image.dtype == "uint8" and (among_others or image.robust_high < DARK_ANYWHERE)

    return is_dark


def _overexposed_rule(scans: Scans) -> Rule:
    usual = median(scan.of_image.bright_fraction for scan in scans)
    if 3 * usual > OVEREXPOSED_SHARE:
        return lambda _: False
    return lambda scan: scan.of_image.bright_fraction > OVEREXPOSED_SHARE


def _low_information_rule(scans: Scans) -> Rule:
    usual = median(scan.of_image.entropy_bits for scan in scans)
    threshold = max(LOW_ENTROPY_BITS, min(LOW_ENTROPY_AGAINST_OTHERS * usual, LOW_ENTROPY_AT_MOST_BITS))
    return lambda scan: scan.of_image.entropy_bits < threshold


def _blurred_rule(scans: Scans) -> Rule:
    usual = median(scan.of_image.sharpness for scan in scans)
    threshold = max(BLURRED_ANYWHERE, min(BLURRED_AGAINST_OTHERS * usual, BLURRED_AT_MOST))
    return lambda scan: scan.of_image.sharpness < threshold


def examine_exposure(scans: Scans) -> list[Finding]:
    """One finding per code, with what is usual in the dataset beside what was found in each scan."""
    found = []
    for code, concerned in faulty_images(scans).items():
        if concerned:
            details = {scan.name: _MEASURES[code](scan.of_image) for scan in concerned}
            remedy = Remedy("drop_unusable") if code == "scans_blank" else None
            usual = _USUAL[code](scans)
            found.append(finding_about_files(code, Severity.WARNING, details, remedy, usual=usual))
    return found


_MEASURES: Mapping[str, Callable[[ImageStatistics], str]] = {
    "scans_blank": lambda image: f"{image.robust_low:g}–{image.robust_high:g}",
    "scans_dark": lambda image: f"{image.mean:.1%}",
    "scans_overexposed": lambda image: f"{image.bright_fraction:.0%}",
    "scans_low_information": lambda image: f"{image.entropy_bits:.1f} bit",
    "scans_blurred": lambda image: f"{image.sharpness:.2g}",
}
_USUAL: Mapping[str, Callable[[Scans], str]] = {
    "scans_blank": lambda scans: f"{median(scan.of_image.robust_high - scan.of_image.robust_low for scan in scans):g}",
    "scans_dark": lambda scans: f"{median(scan.of_image.mean for scan in scans):.1%}",
    "scans_overexposed": lambda scans: f"{median(scan.of_image.bright_fraction for scan in scans):.0%}",
    "scans_low_information": lambda scans: f"{median(scan.of_image.entropy_bits for scan in scans):.1f} bit",
    "scans_blurred": lambda scans: f"{median(scan.of_image.sharpness for scan in scans):.2g}",
}
