from __future__ import annotations

import json

import numpy as np
import pytest

from octa_backend.training.bootstrap import mean_interval
from octa_backend.training.evaluation_report import WORST, make_report, read_subject, summarise
from octa_backend.training.threshold import ProbabilityHistogram, tune_threshold
from tests.reports import epoch, metrics, report, scan, subject


def test_a_metric_is_summed_up_by_mean_spread_and_interval():
    values = [0.5, 0.7, 0.9]
    found = summarise([metrics(value) for value in values])["dice"]
    assert found.mean == pytest.approx(0.7)
    assert found.std == pytest.approx(np.sqrt(0.08 / 3))
    assert found.interval == mean_interval(values)
    assert (found.scans, found.undefined) == (3, 0)


def test_scans_for_which_a_metric_is_not_defined_are_left_out_and_counted():
    found = summarise([metrics(0.5, hd95=None), metrics(0.7, hd95=4.0)])["hd95"]
    assert (found.mean, found.std, found.interval, found.scans, found.undefined) == (4.0, 0.0, None, 1, 1)


def test_a_metric_that_is_defined_for_no_scan_has_no_summary():
    assert summarise([metrics(0.5, auc=None)])["auc"] is None
    assert summarise([])["dice"] is None


def test_each_class_is_summed_up_over_the_scans_that_hold_it():
    found = report(scan("a", metrics(0.5), None), scan("b", metrics(0.7), metrics(0.9)))
    one, two = found.class_summaries
    assert (one["dice"].mean, one["dice"].scans) == (pytest.approx(0.6), 2)
    assert (two["dice"].mean, two["dice"].scans) == (pytest.approx(0.9), 1)


def test_the_worst_scans_come_lowest_dice_first_and_equal_ones_as_they_came():
    dices = [0.9, 0.2, 0.8, 0.2, 0.7, 0.1, 0.95]
    found = report(*(scan(f"s{number}", metrics(dice)) for number, dice in enumerate(dices)))
    assert found.worst == ("s5", "s1", "s3", "s4", "s2")
    assert len(found.worst) == WORST


def test_a_report_of_no_scans_is_refused():
    with pytest.raises(ValueError, match="at least one scan"):
        make_report(subject(), [])


def test_the_json_holds_everything_with_null_for_what_is_not_defined():
    histogram = ProbabilityHistogram.of(np.float32([0.2, 0.9]), np.array([False, True]))
    found = report(
        scan("血管", metrics(0.5, hd95=None)),
        scan("b", metrics(1.0, hd95=None)),
        tuned=tune_threshold([histogram]),
        notes=["other_dataset"],
        history=[epoch(1), epoch(2, val_loss=float("inf"), seconds=3.0)],
    )
    content = json.loads(found.to_json())
    assert content["format"] == 1
    assert content["notice"] == "research use only"
    assert content["subject"]["scale"] == {"spacing": [1.0, 1.0], "tolerance": 1.0, "unit": "px"}
    assert content["scans"][0]["name"] == "血管"
    assert content["scans"][0]["metrics"]["overall"]["hd95"] is None
    assert content["scans"][0]["metrics"]["classes"][0]["dice"] == 0.5
    assert content["summary"]["hd95"] is None
    assert content["summary"]["dice"]["mean"] == 0.75
    assert set(content["summary"]["dice"]["interval"]) == {"low", "high"}
    assert content["class_summaries"][0]["dice"] == content["summary"]["dice"]
    assert content["tuned"]["threshold"] == 0.5
    assert content["tuned"]["curve"]["0.005"] == pytest.approx(2 / 3)
    assert content["notes"] == ["other_dataset"]
    assert content["history"][1] == {"epoch": 2, "train_loss": 0.5, "val_loss": None, "val_dice": 0.5, "lr": 0.001}
    assert "血管" in found.to_json()


def test_a_report_of_an_earlier_version_ignores_no_class():
    content = json.loads(report(about=subject(ignore_index=2)).to_json())
    assert read_subject(content).ignore_index == 2
    del content["subject"]["ignore_index"]
    assert read_subject(content).ignore_index is None


def test_a_single_scan_has_no_interval():
    content = json.loads(report(scan("a", metrics(0.5))).to_json())
    assert content["summary"]["dice"] == {"mean": 0.5, "std": 0.0, "interval": None, "scans": 1, "undefined": 0}
