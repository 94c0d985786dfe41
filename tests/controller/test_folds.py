"""Cross-validations over HTTP."""

from __future__ import annotations

import pytest

from octa_backend.service import attempt_service, model_service
from octa_backend.storage.tables import Job, JobState
from tests.data.zips import encoded, square, with_masks
from tests.fakes import add_epochs, zip_bytes


@pytest.fixture
def parent(api, file_id):
    """A cross-validation of three folds on three scans, of which the first fold runs."""
    job_id = api.start(file_id, epochs=4, folds=3)
    api.tick()
    return job_id


def progress(api, job_id, **headers):
    return api.get(f"/train/progress/{job_id}", headers=headers)


def work(api, job_id, epochs):
    with api.parts.database.writing() as session:
        add_epochs(session, session.get_one(Job, job_id), epochs)


def end(api, job_id, state):
    with api.parts.database.writing() as session:
        [attempt] = [one for one in attempt_service.open_attempts(session) if one.job_id == job_id]
        attempt_service.end(session, attempt.id, "ended").move_to(state)


def test_progress_shows_every_fold_and_the_percent_of_all(api, parent):
    first = progress(api, parent).json()["children"][0]["job_id"]
    work(api, first, 3)
    api.tick()
    found = progress(api, parent).json()
    assert (found["state"], found["fold"], found["queue_position"]) == ("running", None, None)
    assert (found["epoch"], found["epochs"], found["percent"]) == (3, 12, 25.0)
    assert [(child["fold"], child["state"], child["percent"]) for child in found["children"]] == [
        (1, "running", 75.0),
        (2, "queued", 0.0),
        (3, "queued", 0.0),
    ]
    assert found["children"][0]["best"] == {"epoch": 3, "val_dice": 0.5}
    child = progress(api, first).json()
    assert (child["parent_job_id"], child["fold"], child["children"]) == (parent, 1, [])
    assert api.get(f"/train/jobs/{parent}").json()["children"] == found["children"]


@pytest.mark.parametrize("given", [{"folds": 3}, {}], ids=["cross-validation", "single training"])
def test_a_job_whose_epochs_are_left_open_is_shown_before_it_has_a_plan(api, file_id, given):
    job_id = api.start(file_id, **given)
    for state in ("queued", "cancelled"):
        found = progress(api, job_id)
        assert found.status_code == 200, found.text
        assert (found.json()["state"], found.json()["epochs"], found.json()["percent"]) == (state, None, 0.0)
        assert {(child["state"], child["epochs"]) for child in found.json()["children"]} <= {(state, None)}
        shown = api.get(f"/train/jobs/{job_id}").json()
        assert shown["children"] == found.json()["children"]
        assert len(shown["children"]) == given.get("folds", 0)
        assert job_id in [one["job_id"] for one in api.get("/train/jobs").json()["items"]]
        assert api.post(f"/train/jobs/{job_id}/cancel").status_code == (202 if state == "queued" else 409)
    assert '"state":"cancelled"' in api.get(f"/train/jobs/{job_id}/events").text


def test_folds_show_their_epochs_one_by_one_as_their_plans_choose_them(api, file_id):
    parent = api.start(file_id, folds=2)
    first = progress(api, parent).json()["children"][0]["job_id"]
    with api.parts.database.writing() as session:
        job = session.get_one(Job, first)
        options = {"precision": "fp32", "epochs": 40, "model": "unet", "batch_size": 2}
        job.plan = {"device": "cpu", "config": options}
    api.tick()
    found = progress(api, parent).json()
    assert [child["epochs"] for child in found["children"]] == [40, None]
    assert found["epochs"] == 80


def test_the_etag_changes_when_a_fold_does(api, parent):
    before = progress(api, parent)
    etag = before.headers["etag"]
    assert progress(api, parent, **{"If-None-Match": etag}).status_code == 304
    work(api, before.json()["children"][0]["job_id"], 1)
    assert progress(api, parent, **{"If-None-Match": etag}).status_code == 200


def test_a_cancelled_cross_validation_is_deleted_with_its_folds(api, parent):
    folds = [child["job_id"] for child in progress(api, parent).json()["children"]]
    for job_id in (parent, *folds):
        api.parts.files.job(job_id).mkdir(parents=True, exist_ok=True)
    refused = api.post(f"/train/jobs/{folds[1]}/cancel")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:illegal-job-state")
    assert api.post(f"/train/jobs/{parent}/cancel").status_code == 202
    end(api, folds[0], JobState.CANCELLED)
    api.tick()
    assert progress(api, parent).json()["state"] == "cancelled"
    assert api.delete(f"/train/jobs/{parent}").status_code == 204
    assert api.traces()["jobs"] == []
    assert api.traces()["rows"]["jobs"] == 0


@pytest.mark.parametrize("folds", ["1", "21", "-1", "many"])
def test_a_number_of_folds_that_makes_no_sense_is_refused(api, file_id, folds):
    answer = api.post(f"/train/start-with-file/{file_id}", data={"folds": folds})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-config")
    assert answer.json()["detail"].startswith(f"folds={folds!r}: ")


def test_more_folds_than_scans_are_refused_before_anything_is_kept(api, file_id):
    before = api.traces()
    for answer in (
        api.post(f"/train/start-with-file/{file_id}", json={"folds": 5}),
        api.upload(zip_bytes(with_masks(*[encoded(square())] * 4)), "/train/start-with-file", folds="5"),
    ):
        assert answer.status_code == 422
        assert "folds=5, but the dataset has" in answer.json()["detail"]
    assert api.traces() == before


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ensemble(api, parent):
    """A published ensemble of two members."""
    with api.parts.database.writing() as session:
        job = session.get_one(Job, parent)
        for model_id, card in {
            "m1": {},
            "m2": {},
            "together": {"members": [{"model_id": "m1"}, {"model_id": "m2"}]},
        }.items():
            model_service.write_model(api.parts.files.model(model_id), None, card)
            model_service.register(session, model_id, job, card)
        job.model_id = "together"
    return parent


def test_a_model_shows_its_card(api, ensemble):
    found = api.get("/models/together").json()
    assert (found["model_id"], found["job_id"]) == ("together", ensemble)
    assert [member["model_id"] for member in found["card"]["members"]] == ["m1", "m2"]
    assert api.get("/models/nope").json()["type"] == "urn:octa:model-not-found"


def test_an_ensemble_has_no_weights_for_a_training_to_begin_with(api, file_id, ensemble):
    answer = api.post(f"/train/start-with-file/{file_id}", data={"pretrained": "together"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-config")
    assert "is an ensemble, which has no weights of its own; name one of its members: m1, m2" in answer.json()["detail"]


def test_a_member_is_not_deleted_before_its_ensemble(api, ensemble):
    refused = api.delete("/models/m1")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:model-in-use")
    assert refused.json()["detail"] == "model m1 is a member of ensemble together; delete that one first"
    assert api.delete("/models/together").status_code == 204
    assert progress(api, ensemble).json()["model_id"] is None
    assert api.delete("/models/m1").status_code == 204
    assert api.traces()["models"] == ["m2"]
    assert api.delete("/models/m1").status_code == 404
