from __future__ import annotations

import math

import pytest

from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.training import FEW_VALIDATION_SCANS, gradient_verdict, offset_findings, split_findings


def norms(first=0.05, last=0.003, up=0.004, out=0.003):
    return {"encoder_conv1": first, "encoder_last": last, "decoder_first": up, "decoder_output": out}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (norms(), "healthy"),
        (norms(first=1.01e-4, out=1e-4), "healthy"),
        (norms(first=1e-4), "vanishing"),
        (norms(first=0.0), "vanishing"),
        (norms(first=1e-5, out=1.0), "vanishing"),
        (norms(first=0.01, out=0.1), "healthy"),
        (norms(first=0.01, out=0.11), "mild_vanishing"),
        (norms(first=1000.0, out=1000.0), "healthy"),
        (norms(first=1001.0), "exploding"),
        (norms(out=1001.0), "exploding"),
        (norms(up=math.inf), "exploding"),
        (norms(last=math.nan), "exploding"),
        (norms(first=0.0, out=math.nan), "exploding"),
    ],
)
def test_gradient_norms_are_judged(found, expected):
    assert gradient_verdict(found) == expected


def test_few_validation_scans_are_mentioned_with_their_numbers():
    (found,) = split_findings(20, FEW_VALIDATION_SCANS - 1, shared=False)
    assert (found.code, found.severity) == ("few_validation_scans", Severity.INFO)
    assert found.evidence == {"train": 20, "val": FEW_VALIDATION_SCANS - 1, "threshold": FEW_VALIDATION_SCANS}


def test_enough_validation_scans_are_not_mentioned():
    assert split_findings(20, FEW_VALIDATION_SCANS, shared=False) == []


def test_single_scan_that_trains_and_validates_is_a_warning():
    (found,) = split_findings(1, 1, shared=True)
    assert (found.code, found.severity) == ("validation_is_training", Severity.WARNING)


def test_masks_that_lie_beside_are_told_in_hundredths_of_a_pixel():
    (found,) = offset_findings(-0.001, -0.0853, 24)
    assert (found.code, found.severity) == ("masks_beside", Severity.INFO)
    assert str(found.evidence) == "{'rows': 0.0, 'columns': -0.09, 'scans': 24}"
