from __future__ import annotations

import pytest

from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.labels import LEAST_AGREEMENT, LEAST_DISAGREEMENT, label_findings, outliers_begin
from octa_backend.diagnosis.messages import describe

EVEN = {f"{number}": 0.02 + 0.001 * (number % 5) for number in range(20)}


def judged(disagreement, dice=0.9):
    """The findings where the model agrees equally with all masks."""
    return label_findings(disagreement, dict.fromkeys(disagreement, dice))


def test_a_mask_that_stands_out_is_a_warning_that_names_it():
    (finding,) = judged({**EVEN, "odd": 0.4})
    assert (finding.code, finding.severity, finding.scans) == ("labels_suspicious", Severity.WARNING, ("odd",))
    assert finding.evidence["worst_percent"] == 40.0
    assert "odd" in describe(finding, "en")["message"]
    assert "odd" in describe(finding, "zh")["message"]


def test_even_disagreement_is_no_finding_however_high():
    assert judged(EVEN) == []
    assert judged({name: value + 0.3 for name, value in EVEN.items()}) == []


def test_a_little_disagreement_is_the_width_of_an_outline():
    assert judged({**dict.fromkeys(EVEN, 0.0), "odd": LEAST_DISAGREEMENT}) == []


def test_a_scan_stands_out_from_five_deviations_on():
    # 41 values with median 0.3; half of them lie within 0.1, so a deviation is 0.14826 and five end at 1.0413
    values = [0.2, 0.4] * 10 + [0.1, 0.5] * 10 + [0.3]
    assert outliers_begin(values) == pytest.approx(0.3 + 5 * 1.4826 * 0.1)


def test_a_model_that_agrees_with_few_masks_is_no_judge():
    (finding,) = judged({**EVEN, "odd": 0.9}, dice=LEAST_AGREEMENT - 0.01)
    assert (finding.code, finding.severity, finding.scans) == ("labels_not_judged", Severity.INFO, ())
    assert "0.74" in describe(finding, "en")["message"]
    assert "0.74" in describe(finding, "zh")["message"]


def test_a_few_bad_masks_do_not_make_the_model_a_bad_judge():
    disagreement = {**EVEN, "odd": 0.9}
    (finding,) = label_findings(disagreement, {**dict.fromkeys(EVEN, 0.9), "odd": 0.0})
    assert finding.code == "labels_suspicious"


def test_no_scans_are_no_finding():
    assert label_findings({}, {}) == []
