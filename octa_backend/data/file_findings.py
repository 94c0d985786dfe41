"""What was noticed file by file, as findings: one per code, with its severity and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from octa_backend.data.pairing import Fault
from octa_backend.diagnosis.findings import Finding, Remedy, Severity, finding_about_files
from octa_backend.diagnosis.messages import MESSAGES
from octa_backend.diagnosis.text import render

WARNINGS = (
    *("masks_empty_some", "classes_not_understood", "dataset_json_not_understood", "splits_rows_unknown"),
    "scans_without_split",
)
INFOS = ("files_ignored", "masks_passed_over", "channels_mixed", "volumes_unlabelled")
MENDABLE: Mapping[str, str] = {
    "sizes_differ": "resize_masks",
    **dict.fromkeys(
        (
            *("images_without_mask", "masks_without_image", "pairing_ambiguous", "volumes_not_supported"),
            *("volumes_and_pictures_mixed", "format_not_supported", "scan_unreadable", "values_not_finite"),
            *("scan_too_large", "scan_too_small", "scan_has_frames", "volume_unreadable", "volume_single_slice"),
            *("volume_fourth_axis", "volume_too_small", "volume_too_large", "volume_mask_fractions"),
            *("volume_mask_values", "volume_shapes_differ", "volume_affines_differ", "modalities_differ"),
        ),
        "drop_unusable",
    ),
}
"""Faults that a remedy mends. The other faults leave no dataset to mend, or nobody knows which one was meant."""

ABOUT_ALL_MASKS = ("masks_all_empty", "masks_all_foreground")


def findings_about_files(faults: Sequence[Fault]) -> list[Finding]:
    """One finding per code, in the order of `MESSAGES`, where errors come first."""
    by_code: dict[str, dict[str, str]] = {}
    evidence: dict[str, Mapping[str, Any]] = {}
    for fault in sorted(faults, key=lambda fault: fault.file):
        by_code.setdefault(fault.code, {})[fault.file] = fault.found
        evidence.setdefault(fault.code, fault.evidence)
    if "sizes_differ" in by_code:
        why = Counter(fault.evidence["explained_by"] for fault in faults if fault.code == "sizes_differ")
        evidence["sizes_differ"] = {**evidence["sizes_differ"], "explained_by": dict(why)}
    return [
        finding_about_files(code, _severity(code), by_code[code], _remedy(code, evidence[code]), **evidence[code])
        for code in sorted(by_code, key=list(MESSAGES).index)
    ]


def refusal(findings: Sequence[Finding], *, enough: bool) -> str | None:
    """Why nothing of this can be kept, or None.

    Args:
        findings: all that was noticed, errors first.
        enough: whether enough scans could be read.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors or (enough and all(finding.remedy is not None for finding in errors)):
        return None
    return summary(findings)


def summary(findings: Sequence[Finding]) -> str:
    """How many errors there are, and the first of them in words."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    count = sum(finding.evidence.get("count", 1) for finding in errors)
    first = render(MESSAGES[errors[0].code], errors[0].evidence, "en")
    return f"{count} {'fault' if count == 1 else 'faults'} in the data; first: {first}"


def _severity(code: str) -> Severity:
    return Severity.WARNING if code in WARNINGS else Severity.INFO if code in INFOS else Severity.ERROR


def _remedy(code: str, evidence: Mapping[str, Any]) -> Remedy | None:
    if code == "sizes_differ" and set(evidence["explained_by"]) == {"nothing"}:
        return Remedy("drop_unusable")
    return Remedy(MENDABLE[code]) if code in MENDABLE else None
