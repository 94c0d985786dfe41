from __future__ import annotations

import json

import pytest

from octa_backend.diagnosis.findings import Finding, Remedy, Severity, finding_about_files
from octa_backend.service.finding_store import from_row, to_row


@pytest.mark.parametrize(
    "finding",
    [
        Finding("scan_too_small", Severity.ERROR),
        finding_about_files("sizes_differ", Severity.ERROR, {"1.png": "3×3", "2.png": ""}, mask="1.png"),
        Finding("x", Severity.WARNING, {"value": 0.5}, ("a", "b"), epoch=3, remedy=Remedy("more", {"lr": 1e-4})),
    ],
)
def test_a_finding_comes_back_from_its_row_as_it_was(finding):
    row = json.loads(json.dumps(to_row(finding)))
    assert from_row(row) == finding
