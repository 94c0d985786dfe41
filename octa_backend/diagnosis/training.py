"""Verdicts on a running training, from its numbers. Thresholds are named and explained beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from octa_backend.diagnosis.findings import Finding, Severity

HEALTHY_NORM = 1e-4
"""A gradient group above this L2 norm still moves its weights (the rule that users of the product know)."""

MILD_RATIO = 10.0
"""The group nearest the output over the group nearest the input: above it the gradient thins out on its way."""

EXPLODING_NORM = 1e3
"""An L2 norm this large overshoots at any usual learning rate."""


def gradient_verdict(norms: Mapping[str, float]) -> str:
    """Judge the gradient norms of the four groups.

    Args:
        norms: L2 norm per group; `encoder_conv1` is nearest the input, `decoder_output` nearest the output.

    Returns:
        `exploding`, `vanishing`, `mild_vanishing` or `healthy`.
    """
    values = list(norms.values())
    if any(not math.isfinite(value) or value > EXPLODING_NORM for value in values):
        return "exploding"
    if norms["encoder_conv1"] <= HEALTHY_NORM:
        return "vanishing"
    if norms["decoder_output"] > MILD_RATIO * norms["encoder_conv1"]:
        return "mild_vanishing"
    return "healthy"


FEW_VALIDATION_SCANS = 5
"""With fewer scans the mean Dice of the validation says little about the choice of the best epoch."""


def offset_findings(rows: float, columns: float, scans: int) -> list[Finding]:
    """Tell of masks that lie beside what they show.

    Args:
        rows, columns: mean over scans, pixels; positive is down, or to the right.
        scans: so many were measured.
    """
    places = {"rows": round(rows, 2) + 0.0, "columns": round(columns, 2) + 0.0}  # 0.0 in place of -0.0
    return [Finding("masks_beside", Severity.INFO, {**places, "scans": scans})]


def split_findings(train: int, val: int, *, shared: bool) -> list[Finding]:
    """Judge how a dataset was divided.

    Args:
        train: number of training scans.
        val: number of validation scans.
        shared: whether a scan is in both, because there is only one.
    """
    counts = {"train": train, "val": val}
    if shared:
        return [Finding("validation_is_training", Severity.WARNING, counts)]
    if val < FEW_VALIDATION_SCANS:
        return [Finding("few_validation_scans", Severity.INFO, {**counts, "threshold": FEW_VALIDATION_SCANS})]
    return []
