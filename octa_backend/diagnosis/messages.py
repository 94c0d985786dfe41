"""The sentences of all findings, in English and Chinese. Placeholders are keys of a finding's evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.messages_dataset import DATASET_MESSAGES
from octa_backend.diagnosis.messages_dataset import REMEDY_TITLES as DATASET_REMEDY_TITLES
from octa_backend.diagnosis.messages_doctor import DOCTOR_MESSAGES, DOCTOR_REMEDY_TITLES
from octa_backend.diagnosis.messages_files import FILE_MESSAGES
from octa_backend.diagnosis.messages_training import TRAINING_MESSAGES
from octa_backend.diagnosis.messages_volumes import VOLUME_MESSAGES
from octa_backend.diagnosis.text import Language, Text, render

MESSAGES: Mapping[str, Text] = {
    **FILE_MESSAGES,
    **DATASET_MESSAGES,
    **VOLUME_MESSAGES,
    **TRAINING_MESSAGES,
    **DOCTOR_MESSAGES,
}
REMEDY_TITLES: Mapping[str, Text] = {**DATASET_REMEDY_TITLES, **DOCTOR_REMEDY_TITLES}

_GRAVEST_FIRST = list(Severity)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then infos; within them in the order of `MESSAGES`."""
    codes = list(MESSAGES)
    return tuple(sorted(findings, key=lambda found: (_GRAVEST_FIRST.index(found.severity), codes.index(found.code))))


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
            **({} if remedy.from_checkpoint is None else {"from_checkpoint": remedy.from_checkpoint}),
        },
    }
