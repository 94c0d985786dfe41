from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from octa_backend.diagnosis.findings import Severity, finding_about_files
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.service import finding_store
from octa_backend.storage.tables import Dataset, EpochReport, Job, JobFinding
from tests.controller.test_repair import SMOOTHED, codes
from tests.diagnosis import histories
from tests.service.test_run_doctor import reports

TREATED = {"cause": "overfitting", "remedy": "decay_weights", "from_checkpoint": False}


def a_diagnosed_job(api, file_id, history, **options):
    """A job with the rows of a drawn run."""
    job_id = api.start(file_id, **options)
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


@pytest.fixture
def diagnosed(api, file_id):
    """A job that does well."""
    return a_diagnosed_job(api, file_id, histories.run(np.random.default_rng(0), epochs=20))


@pytest.mark.parametrize(("epoch", "blamed"), [(5, False), (20, False), (21, True)])
def test_a_run_that_diverged_is_at_fault_until_it_gets_beyond_that_epoch(api, diagnosed, epoch, blamed):
    evidence = {"what": "dice", "epoch": epoch, "lr": 0.3, "confidence": 1.0}
    with api.parts.database.writing() as session:
        finding = {"code": "loss_not_finite", "severity": "error", "evidence": evidence, "epoch": epoch}
        session.add(JobFinding(job_id=diagnosed, finding=finding))
    verdict = api.get(f"/train/jobs/{diagnosed}/diagnosis").json()["verdict"]
    assert (verdict["code"] == "loss_not_finite") is blamed
    assert not blamed or verdict["evidence"] == evidence


@pytest.mark.parametrize(("count", "scans", "blamed"), [(1, 30, False), (15, 30, True)])
def test_a_warning_about_few_scans_of_the_dataset_does_not_explain_the_run(api, file_id, count, scans, blamed):
    job_id = a_diagnosed_job(api, file_id, histories.gradients_vanishing(np.random.default_rng(0)))
    with api.parts.database.writing() as session:
        dataset = session.get_one(Dataset, file_id)
        blank = finding_about_files("scans_blank", Severity.WARNING, {f"s{number:02d}": "" for number in range(count)})
        dataset.scans, dataset.findings = scans, [finding_store.to_row(blank)]
    verdict = api.get(f"/train/jobs/{job_id}/diagnosis").json()["verdict"]
    assert (verdict["code"] == "data_at_fault") is blamed


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


def test_what_was_tried_before_the_first_step_is_shown_where_it_was(api, diagnosed):
    assert api.get(f"/train/jobs/{diagnosed}/diagnosis").json()["start"] is None
    checks = StartChecks(lr=1e-3, initial_loss=0.7, expected_initial_loss=0.69, not_tried={"rates": "time"})
    with api.parts.database.writing() as session:
        session.get_one(Job, diagnosed).start_checks = asdict(checks)
    found = api.get(f"/train/jobs/{diagnosed}/diagnosis").json()["start"]
    assert found == asdict(checks)
    assert "initial loss 0.7000 (expected 0.6900)" in api.get(f"/train/jobs/{diagnosed}/diagnosis.md").text


@pytest.fixture
def too_low(api, file_id):
    """A job whose learning rate is far too low."""
    return a_diagnosed_job(api, file_id, histories.lr_too_low(np.random.default_rng(0)))


def test_a_remedy_goes_on_from_published_weights_only(api, too_low):
    answer = api.post(f"/train/jobs/{too_low}/remedies/raise_lr")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:octa:illegal-job-state")
    assert "goes on from its weights, so cancel it or wait for its end" in answer.json()["detail"]


def test_a_remedy_starts_a_child_job_that_the_parent_lists(api, too_low):
    with api.parts.database.writing() as session:
        job = session.get_one(Job, too_low)
        job.model_id, job.best_val_dice = "m1", 0.3
        before = job.config["lr"]
    proposed = api.get(f"/train/jobs/{too_low}/diagnosis").json()["verdict"]["remedy"]
    answer = api.post(f"/train/jobs/{too_low}/remedies/{proposed['code']}")
    assert answer.status_code == 202
    child = api.get(f"/train/jobs/{answer.json()['job_id']}").json()
    assert (child["parent_job_id"], child["state"]) == (too_low, "queued")
    assert (child["config"]["lr"], child["config"]["pretrained"]) == (proposed["changes"]["lr"], "m1")
    (listed,) = api.get(f"/train/jobs/{too_low}").json()["remedied"]
    assert (listed["job_id"], listed["val_dice_before"], listed["val_dice_after"]) == (child["job_id"], 0.3, None)
    assert listed["changes"]["lr"] == {"before": before, "after": proposed["changes"]["lr"]}


def test_a_child_keeps_what_its_parent_was_treated_with(api, too_low):
    """But not its epochs: those before the treatment are counted in them."""
    treatment = {"changes": {"weight_decay": [0.0, 0.01], "epochs": [30, 38]}, "after": 0, "restarts": False}
    with api.parts.database.writing() as session:
        job = session.get_one(Job, too_low)
        config = {**job.plan["config"], "weight_decay": 0.01, "epochs": 38}
        job.plan = {**job.plan, "config": config, "treatments": [{**TREATED, **treatment}]}
        job.model_id, epochs = "m1", job.config["epochs"]
    answer = api.post(f"/train/jobs/{too_low}/remedies/raise_lr")
    child = api.get(f"/train/jobs/{answer.json()['job_id']}").json()["config"]
    assert (child["weight_decay"], child["epochs"]) == (0.01, epochs)
    (listed,) = api.get(f"/train/jobs/{too_low}").json()["remedied"]
    assert set(listed["changes"]) == {"lr", "pretrained"}


def test_a_remedy_that_is_not_proposed_is_refused_with_those_that_are(api, too_low, diagnosed):
    answer = api.post(f"/train/jobs/{too_low}/remedies/polish")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:remedy-not-applicable")
    assert "'polish'" in answer.json()["detail"]
    assert "raise_lr" in answer.json()["detail"]
    healthy = api.post(f"/train/jobs/{diagnosed}/remedies/raise_lr")
    assert "proposes no remedy" in healthy.json()["detail"]


def test_a_remedy_that_changes_nothing_is_refused(api, too_low):
    """The job has been resumed with what the doctor proposed for the run before."""
    proposed = api.get(f"/train/jobs/{too_low}/diagnosis").json()["verdict"]["remedy"]
    with api.parts.database.writing() as session:
        job = session.get_one(Job, too_low)
        job.model_id, job.config = "m1", {**job.config, **proposed["changes"]}
    before = api.traces()
    answer = api.post(f"/train/jobs/{too_low}/remedies/{proposed['code']}")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:remedy-not-applicable")
    assert f"raise_lr changes nothing: job {too_low} has lr=" in answer.json()["detail"]
    assert api.traces() == before


def test_a_remedy_of_the_dataset_starts_a_child_on_the_repaired_one(api):
    faulty = api.upload(SMOOTHED).json()["file_id"]
    job_id = a_diagnosed_job(api, faulty, histories.masks_unpredictable(np.random.default_rng(0)), force=True)
    proposed = api.get(f"/train/jobs/{job_id}/diagnosis").json()["verdict"]["remedy"]
    assert proposed["code"] == "binarize_masks"
    answer = api.post(f"/train/jobs/{job_id}/remedies/binarize_masks")
    assert answer.status_code == 202, answer.text
    repaired = answer.json()["file_id"]
    assert repaired != faulty
    assert not codes(api.get(f"/datasets/{repaired}").json()["findings"])
    (listed,) = api.get(f"/train/jobs/{job_id}").json()["remedied"]
    assert listed["changes"] == {"file_id": {"before": faulty, "after": repaired}}
