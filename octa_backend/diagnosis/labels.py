"""Which masks a trained model makes look wrong: from its judgement of each scan to a finding."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import median

from octa_backend.diagnosis.findings import Finding, Severity, finding_about_files

LEAST_AGREEMENT = 0.75
"""Median Dice of masks and model from which the model is a judge. Weaker ones are sure of nonsense: most scans that
networks with 0.2 to 0.7 named were sound."""

OUTLIER_DEVIATIONS = 5.0
"""Median absolute deviations (scaled to standard deviations) above the median from which a scan is an outlier. For
normal distributions 3.5 are usual (B. Iglewicz, D. Hoaglin, How to Detect and Handle Outliers, 1993), but disagreement
is skewed to the right: the worst of 30 to 40 sound scans lies at 3 to 4.5, label errors at 10 and more."""

MAD_TO_STD = 1.4826
"""Of a normal distribution: standard deviation over median absolute deviation."""

LEAST_DISAGREEMENT = 0.05
"""A smaller share of contradicted foreground is the usual width of an outline, however even the other scans are."""

LEAST_SPREAD = 0.01
"""Spread that is assumed at least, so that a handful of very even scans makes no outliers of the others."""


def label_findings(disagreement: Mapping[str, float], agreement: Mapping[str, float]) -> list[Finding]:
    """Judge how much each scan's mask contradicts a model.

    Args:
        disagreement: scan -> share of its foreground where the model is sure that the mask is wrong, 0..1.
        agreement: scan -> Dice of its mask and the model's prediction.
    """
    if not disagreement:
        return []
    agreed = median(agreement.values())
    if agreed < LEAST_AGREEMENT:
        facts = {"median_dice": round(agreed, 2), "least_dice": LEAST_AGREEMENT}
        return [Finding("labels_not_judged", Severity.INFO, facts)]
    threshold = outliers_begin(disagreement.values())
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
            median_percent=round(100 * median(disagreement.values()), 1),
            worst=worst,
            worst_percent=round(100 * disagreement[worst], 1),
        )
    ]


def outliers_begin(values: Collection[float]) -> float:
    """Disagreement above which a scan stands out among the others."""
    middle = median(values)
    spread = max(LEAST_SPREAD, MAD_TO_STD * median(abs(value - middle) for value in values))
    return max(LEAST_DISAGREEMENT, middle + OUTLIER_DEVIATIONS * spread)
