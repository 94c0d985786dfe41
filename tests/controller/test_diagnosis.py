from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from octa_backend.storage.tables import EpochReport, Job
from tests.diagnosis import histories
from tests.service.test_run_doctor import reports


@pytest.fixture
def diagnosed(api, file_id):
    """A job with the rows of a drawn healthy run."""
    job_id = api.start(file_id)
    history = histories.run(np.random.default_rng(0), epochs=20)
    facts = history.facts
    plan = {
        "config": dict(facts.config),
        "device": "cpu",
        "classes": facts.classes,
        "patches_per_scan": 1,
        "fingerprint": {"training_scans": 85, "validation_scans": 15, "foreground_fraction": 0.13},
        "estimate": {"parameters": facts.parameters},
    }
    with api.parts.database.writing() as session:
        session.get_one(Job, job_id).plan = plan
        for report in reports(history):
            session.add(EpochReport(job_id=job_id, **asdict(report)))
    return job_id


@pytest.mark.parametrize("name", ["diagnosis", "diagnosis.md"])
def test_a_job_that_nobody_planned_cannot_be_judged(api, file_id, name):
    answer = api.get(f"/train/jobs/{api.start(file_id)}/{name}")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:octa:no-diagnosis-yet")
    assert api.get(f"/train/jobs/nope/{name}").status_code == 404


def test_a_healthy_run_has_a_verdict_that_is_no_fault(api, diagnosed):
    found = api.get(f"/train/jobs/{diagnosed}/diagnosis").json()
    assert (found["job_id"], found["epochs"], found["verdict"]["severity"]) == (diagnosed, 20, "info")
    assert found["state"] in ("converged", "still_learning")
    assert "lr_too_low" in found["ruled_out"]
    assert found["plateau"]["last_losses"]


def test_the_letter_is_markdown_in_the_readers_language(api, diagnosed):
    letter = api.get(f"/train/jobs/{diagnosed}/diagnosis.md", headers={"Accept-Language": "zh"})
    assert letter.headers["content-type"].startswith("text/markdown")
    assert f"{diagnosed}-diagnosis.md" in letter.headers["content-disposition"]
    assert letter.text.startswith("# ")
    assert any("\u4e00" <= letter_sign <= "\u9fff" for letter_sign in letter.text)
