from __future__ import annotations

import pytest

from octa_backend.service.report_service import write_report


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
