from __future__ import annotations

from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.labels import LEAST_DISAGREEMENT, label_findings
from octa_backend.diagnosis.messages import describe

EVEN = {f"{number}": 0.02 + 0.001 * (number % 5) for number in range(20)}


def test_a_mask_that_stands_out_is_a_warning_that_names_it():
    (finding,) = label_findings({**EVEN, "odd": 0.4})
    assert (finding.code, finding.severity, finding.scans) == ("labels_suspicious", Severity.WARNING, ("odd",))
    assert finding.evidence["worst_percent"] == 40.0
    assert "odd" in describe(finding, "en")["message"]
    assert "odd" in describe(finding, "zh")["message"]


def test_even_disagreement_is_no_finding_however_high():
    assert label_findings(EVEN) == []
    assert label_findings({name: value + 0.3 for name, value in EVEN.items()}) == []


def test_a_little_disagreement_is_the_width_of_an_outline():
    assert label_findings({**dict.fromkeys(EVEN, 0.0), "odd": LEAST_DISAGREEMENT}) == []


def test_no_scans_are_no_finding():
    assert label_findings({}) == []
