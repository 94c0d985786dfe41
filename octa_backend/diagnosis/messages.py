"""The sentences of the findings, in English and Chinese. Placeholders are keys of a finding's evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from octa_backend.diagnosis.findings import Finding

Language = Literal["en", "zh"]


class Text(NamedTuple):
    """One sentence in both languages."""

    en: str
    zh: str


MESSAGES: Mapping[str, Text] = {
    # Filled per check; see also DATASET texts below.
}

REMEDY_TITLES: Mapping[str, Text] = {}


def render(text: Text, evidence: Mapping[str, Any], language: Language) -> str:
    """Fill the placeholders of one sentence."""
    return getattr(text, language).format_map(evidence)


def describe(finding: Finding, language: Language) -> dict[str, Any]:
    """The finding as the API shows it (architecture: Finding), with its message in `language`."""
    remedy = finding.remedy
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "epoch": finding.epoch,
        "message": render(MESSAGES[finding.code], finding.evidence, language),
        "evidence": dict(finding.evidence),
        "scans": list(finding.scans),
        "remedy": None
        if remedy is None
        else {
            "code": remedy.code,
            "title": render(REMEDY_TITLES[remedy.code], remedy.changes, language),
            "changes": dict(remedy.changes),
        },
    }
