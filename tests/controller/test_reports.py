from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from octa_backend.controller.report_schemas import ReportOut
from octa_backend.service.report_service import write_report
from octa_backend.training.cross_validation import CrossValidation, FoldResult
from octa_backend.training.run_facts import RunFacts
from octa_backend.training.threshold import ProbabilityHistogram, tune_threshold
from tests.reports import epoch, metrics, report, scan, subject


@pytest.mark.parametrize("name", ["report", "report.html"])
def test_a_job_without_a_report_says_when_there_will_be_one(api, file_id, name):
    job_id = api.start(file_id)
    answer = api.get(f"/train/jobs/{job_id}/{name}")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:octa:no-report-yet")
    expected = f"job {job_id} is queued and has no report; it is made at the end of a job, before it succeeds"
    assert answer.json()["detail"] == expected
    unknown = api.get(f"/train/jobs/nope/{name}")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:octa:job-not-found")


def test_a_report_is_served_as_json_and_as_a_page(api, file_id):
    job_id = api.start(file_id)
    write_report(api.parts.files.job(job_id), '{"kind": "evaluation"}', "<!DOCTYPE html><p>评估</p>")
    found = api.get(f"/train/jobs/{job_id}/report")
    assert (found.headers["content-type"], found.json()) == ("application/json", {"kind": "evaluation"})
    page = api.get(f"/train/jobs/{job_id}/report.html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == "<!DOCTYPE html><p>评估</p>"


def a_whole_report():
    histogram = ProbabilityHistogram.of(np.float32([0.2, 0.9]), np.array([False, True]))
    reason = {"field": "lr", "value": 0.001, "reason": "given"}
    return report(
        scan("a", metrics(0.5, hd95=None), None),
        scan("b", metrics(1.0, hd95=None), metrics(0.25)),
        tuned=tune_threshold([histogram]),
        notes=["other_dataset"],
        history=[epoch(1), epoch(2, val_loss=float("inf"))],
        training=RunFacts({"lr": 0.001}, (reason,), (64, 64), 2, 1, 1.5, 0.5, 8.0, 900.0),
    )


def a_cross_validation(*, tested):
    folds = (FoldResult(1, "m-1", 3, 1, 0.5), FoldResult(2, "m-2", 4, 1, 1.0))
    validated = report(about=subject(split="out_of_fold"))
    return CrossValidation("m", folds, validated, a_whole_report() if tested else None, {"lr": 0.001})


@pytest.mark.parametrize(
    "written", [a_whole_report(), report(), a_cross_validation(tested=True), a_cross_validation(tested=False)]
)
def test_the_schema_has_every_field_of_a_report(written):
    """The file is served as it stands: nothing but this holds the OpenAPI document against it."""
    content = json.loads(written.to_json())
    assert TypeAdapter(ReportOut).validate_python(content).model_dump() == content
