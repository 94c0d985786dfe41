from __future__ import annotations

import dataclasses
import json

import pytest

from octa_backend.diagnosis.findings import MAX_SCANS, Finding, Remedy, Severity, finding_about_files


def test_finding_about_files_names_them_in_order_with_an_example():
    found = finding_about_files("scan_too_small", Severity.ERROR, {"b.png": "8 x 8", "a.png": "4 x 4"})
    assert found.scans == ("a.png", "b.png")
    assert found.evidence == {"count": 2, "example": "a.png (4 x 4)", "files": {"a.png": "4 x 4", "b.png": "8 x 8"}}
    assert (found.epoch, found.remedy) == (None, None)


def test_example_without_detail_has_no_brackets():
    assert finding_about_files("images_without_mask", Severity.ERROR, {"a.png": ""}).evidence["example"] == "a.png"


def test_finding_names_the_first_scans_and_counts_all():
    details = {f"{number:03d}.png": "" for number in range(MAX_SCANS + 5)}
    found = finding_about_files("masks_empty_some", Severity.WARNING, details)
    assert found.scans == tuple(sorted(details))[:MAX_SCANS]
    assert found.evidence["count"] == MAX_SCANS + 5
    assert len(found.evidence["files"]) == MAX_SCANS


def test_further_evidence_is_kept():
    found = finding_about_files("masks_not_binary", Severity.ERROR, {"a.png": "3: 0, 1, 2"}, unique_values=3)
    assert found.evidence["unique_values"] == 3


def test_severities_are_the_words_of_the_api():
    assert [severity.value for severity in Severity] == ["error", "warning", "info"]


def test_finding_is_plain_data_that_json_can_hold():
    remedy = Remedy("lower_lr", {"lr": 1e-4})
    found = Finding("diverged", Severity.ERROR, {"loss": 1.5}, ("12",), epoch=3, remedy=remedy)
    assert json.loads(json.dumps(dataclasses.asdict(found))) == {
        "code": "diverged",
        "severity": "error",
        "evidence": {"loss": 1.5},
        "scans": ["12"],
        "epoch": 3,
        "remedy": {"code": "lower_lr", "changes": {"lr": 1e-4}, "from_checkpoint": None},
    }


def test_finding_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Finding("a", Severity.INFO).code = "b"
