"""Findings as JSON in rows, and back. Their text is made when they are shown, in the reader's language."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from octa_backend.diagnosis.findings import Finding, Remedy, Severity


def to_row(finding: Finding) -> dict[str, Any]:
    """The finding as it is stored."""
    return {**asdict(finding), "severity": finding.severity.value, "scans": list(finding.scans)}


def from_row(row: dict[str, Any]) -> Finding:
    """The finding that `to_row` stored."""
    remedy = Remedy(**row["remedy"]) if row["remedy"] else None
    return Finding(**{**row, "severity": Severity(row["severity"]), "scans": tuple(row["scans"]), "remedy": remedy})
