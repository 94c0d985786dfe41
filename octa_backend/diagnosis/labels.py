"""Which masks a trained model makes look wrong: from disagreements per scan to a finding."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from octa_backend.diagnosis.findings import Finding, Severity, finding_about_files

OUTLIER_DEVIATIONS = 3.5
"""Median absolute deviations (scaled to standard deviations) above the median from which a scan is an outlier
(B. Iglewicz, D. Hoaglin, How to Detect and Handle Outliers, 1993)."""

MAD_TO_STD = 1.4826
"""Of a normal distribution: standard deviation over median absolute deviation."""

LEAST_DISAGREEMENT = 0.05
"""A smaller share of contradicted foreground is the usual width of an outline, however even the other scans are."""

LEAST_SPREAD = 0.01
"""Spread that is assumed at least, so that a handful of very even scans makes no outliers of the others."""


def label_findings(disagreement: Mapping[str, float]) -> list[Finding]:
    """Judge how much each scan's mask contradicts a model.

    Args:
        disagreement: scan -> share of its foreground where the model is sure that the mask is wrong, 0..1.
    """
    if not disagreement:
        return []
    middle = median(disagreement.values())
    spread = max(LEAST_SPREAD, MAD_TO_STD * median(abs(value - middle) for value in disagreement.values()))
    threshold = max(LEAST_DISAGREEMENT, middle + OUTLIER_DEVIATIONS * spread)
    suspicious = {scan: f"{value:.0%}" for scan, value in disagreement.items() if value > threshold}
    if not suspicious:
        return []
    worst = max(disagreement, key=lambda scan: disagreement[scan])
    return [
        finding_about_files(
            "labels_suspicious",
            Severity.WARNING,
            suspicious,
            threshold_percent=round(100 * threshold, 1),
            median_percent=round(100 * middle, 1),
            worst=worst,
            worst_percent=round(100 * disagreement[worst], 1),
        )
    ]
