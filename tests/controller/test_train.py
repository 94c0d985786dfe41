from __future__ import annotations

import pytest

from octa_backend.diagnosis.training import split_findings
from octa_backend.service import attempt_service, finding_store, model_service
from octa_backend.service.supervisor import Supervisor
from octa_backend.storage.tables import EpochReport, Job, JobFinding, JobState
from octa_backend.training.config import TrainConfig
from tests.data.zips import dataset
from tests.fakes import Api, a_job, add_epochs, wait_for, zip_bytes

ZIP = zip_bytes(dataset())


def work(api, job_id, epochs):
    """Have the job's worker report so many epochs."""
    with api.parts.database.writing() as session:
        add_epochs(session, session.get_one(Job, job_id), epochs)


def end(api, job_id, state):
    with api.parts.database.writing() as session:
        for attempt in attempt_service.open_attempts(session):
            if attempt.job_id == job_id:
                attempt_service.end(session, attempt.id, "ended").move_to(state)


def progress(api, job_id, query="", **headers):
    return api.get(f"/train/progress/{job_id}{query}", headers=headers)


# --- starting --------------------------------------------------------------------------------------------------------


def test_a_zip_with_fields_starts_a_job_and_says_where_to_poll_it(api):
    answer = api.upload(ZIP, "/train/start-with-file", epochs="7", lr="0.001", model="unet", pos_weight="")
    assert answer.status_code == 202
    started = answer.json()
    assert set(started) == {"job_id", "file_id", "state", "progress_url", "repairs", "config_changes"}
    assert (started["repairs"], started["config_changes"]) == ([], {})
    assert started["state"] == "queued"
    assert answer.headers["location"] == started["progress_url"] == f"/train/progress/{started['job_id']}"
    config = api.get(f"/train/jobs/{started['job_id']}").json()["config"]
    assert (config["epochs"], config["lr"], config["model"], config["pos_weight"]) == (7, 0.001, "unet", None)


@pytest.mark.parametrize(
    "given",
    [
        {"json": {"epochs": 7, "augmentation": "none"}},
        {"content": b'{"epochs": 7, "augmentation": "none"}'},
        {"data": {"epochs": "7", "augmentation": "none"}},
        {"files": {"epochs": (None, b"7"), "augmentation": (None, b"none")}},
        {"data": {"config": '{"epochs": 7, "augmentation": "none"}'}},
        {"files": {"config": (None, b'{"epochs": 7, "augmentation": "none"}')}},
    ],
    ids=["json", "json without a type", "form", "multipart", "config in a form", "config in a multipart form"],
)
def test_a_configuration_may_come_as_a_form_or_as_json(api, file_id, given):
    answer = api.post(f"/train/start-with-file/{file_id}", **given)
    assert answer.status_code == 202
    config = api.get(f"/train/jobs/{answer.json()['job_id']}").json()["config"]
    assert (config["epochs"], config["augmentation"]) == (7, "none")


@pytest.mark.parametrize("kind", ["multipart", "multipart with the zip", "urlencoded"])
def test_a_list_may_come_as_repeated_parts_of_a_form(api, file_id, kind):
    """Clients that are made from the schema send an array so, as its default encoding says."""
    lists = {"class_weights": ["1", "5"], "target_shape": ["32", "32", "16"]}
    url = "/train/start-with-file" if "zip" in kind else f"/train/start-with-file/{file_id}"
    parts = [(name, (None, one)) for name, values in lists.items() for one in values]
    if "zip" in kind:
        parts.append(("file", ("scans.zip", zip_bytes(dataset()), "application/zip")))
    answer = api.post(url, data=lists) if kind == "urlencoded" else api.post(url, files=parts)
    assert answer.status_code == 202, answer.text
    config = api.get(f"/train/jobs/{answer.json()['job_id']}").json()["config"]
    assert (config["class_weights"], config["target_shape"]) == ([1.0, 5.0], [32, 32, 16])


def test_what_is_no_list_comes_once(api, file_id):
    answer = api.post(f"/train/start-with-file/{file_id}", files=[("epochs", (None, "1")), ("epochs", (None, "2"))])
    assert (answer.status_code, answer.json()["detail"]) == (400, "the form's field 'epochs' came twice")


def test_without_a_configuration_the_defaults_are_taken(api, file_id):
    answer = api.post(f"/train/start-with-file/{file_id}")
    job = api.get(f"/train/jobs/{answer.json()['job_id']}").json()
    assert job["config"] == TrainConfig().model_dump(mode="json")


def test_what_was_left_open_is_unknown_until_there_is_a_plan(api, file_id):
    job_id = api.post(f"/train/start-with-file/{file_id}").json()["job_id"]
    progress = api.get(f"/train/progress/{job_id}").json()
    assert [progress[name] for name in ("model", "epochs", "precision", "device", "eta_seconds")] == [None] * 5
    assert progress["percent"] == 0


def test_schema_offers_auto_for_what_the_plan_can_decide(api):
    properties = api.get("/openapi.json").json()["paths"]["/train/start-with-file/{file_id}"]["post"]["requestBody"]
    fields = properties["content"]["application/json"]["schema"]["properties"]
    for name in ("epochs", "loss", "optimizer", "scheduler", "augmentation", "normalisation", "pos_weight", "lr"):
        assert "auto" in str(fields[name]), name


def test_a_configuration_of_another_kind_is_refused(api, file_id):
    headers = {"Content-Type": "text/csv"}
    answer = api.post(f"/train/start-with-file/{file_id}", content=b"epochs;7", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:octa:invalid-request")


def test_a_configuration_that_is_too_large_is_refused(api, file_id):
    answer = api.post(f"/train/start-with-file/{file_id}", content=b" " * (2**20 + 1))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:octa:upload-too-large")


def test_a_wrong_field_beside_a_zip_leaves_neither_job_nor_dataset(api):
    before = api.traces()
    answer = api.upload(ZIP, "/train/start-with-file", epochs="-1")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-config")
    assert api.traces() == before


def test_a_started_job_wakes_the_supervisor(settings, database):
    with Api(settings, supervisor=Supervisor) as api:
        job_id = api.upload(ZIP, "/train/start-with-file").json()["job_id"]
        wait_for("the job's start", lambda: progress(api, job_id).json()["state"] == "running")
        assert api.launcher.jobs == [job_id]


# --- polling ---------------------------------------------------------------------------------------------------------


def test_progress_of_a_waiting_job_tells_its_place(api, file_id):
    ids = [api.start(file_id) for _ in range(3)]
    api.tick()
    found = [progress(api, job_id).json() for job_id in ids]
    assert [p["state"] for p in found] == ["running", "queued", "queued"]
    assert [p["queue_position"] for p in found] == [None, 1, 2]
    assert [p["attempt"] for p in found] == [1, 0, 0]
    assert all(p["latest"] is p["best"] is p["eta_seconds"] is None for p in found)


def test_progress_of_a_running_job_has_the_shape_of_the_contract(api, file_id):
    job_id = api.start(file_id, epochs=10)
    api.tick()
    work(api, job_id, 4)
    found = progress(api, job_id).json()
    assert set(found) >= {
        "job_id", "file_id", "parent_job_id", "state", "cancel_requested", "attempt", "queue_position", "model",
        "device", "precision", "epoch", "epochs", "percent", "eta_seconds", "latest", "best", "epochs_since",
        "findings", "model_id", "error", "created_at", "started_at", "finished_at",
    }  # fmt: skip
    assert (found["epoch"], found["epochs"], found["percent"], found["eta_seconds"]) == (4, 10, 40.0, 12.0)
    assert found["best"] == {"epoch": 4, "val_dice": 0.5}
    assert found["latest"]["loss_components"] == {"bce": 0.3, "dice": 0.5}
    assert found["latest"]["gradient_norms"]["encoder_conv1"] == 0.05
    assert found["created_at"].endswith(("Z", "+00:00"))


def test_a_job_that_ended_early_and_well_is_wholly_done(api, file_id):
    job_id = api.start(file_id, epochs=10)
    api.tick()
    work(api, job_id, 4)
    end(api, job_id, JobState.SUCCEEDED)
    found = progress(api, job_id).json()
    assert (found["epoch"], found["epochs"], found["percent"]) == (4, 10, 100.0)


def test_scores_of_each_class_are_shown_with_their_epoch(api, file_id, database):
    job_id = api.start(file_id)
    scores = [{"class": 1, "dice": 0.5, "iou": 0.25, "scans": 2}, {"class": 2, "dice": None, "iou": None, "scans": 0}]
    with database.writing() as session:
        add_epochs(session, session.get_one(Job, job_id), 2)
        session.get_one(EpochReport, (job_id, 2)).per_class = scores
    shown = api.get(f"/train/jobs/{job_id}/epochs").json()["items"]
    assert [epoch["per_class"] for epoch in shown] == [None, scores]
    assert api.get(f"/train/progress/{job_id}").json()["latest"]["per_class"] == scores


def test_progress_sends_reports_since_an_epoch(api, file_id):
    job_id = api.start(file_id)
    work(api, job_id, 3)
    assert progress(api, job_id).json()["epochs_since"] == []
    assert [r["epoch"] for r in progress(api, job_id, "?since_epoch=1").json()["epochs_since"]] == [2, 3]


def test_a_poll_that_brings_nothing_new_is_answered_with_304(api, file_id):
    job_id = api.start(file_id)
    tag = progress(api, job_id).headers["etag"]
    again = progress(api, job_id, **{"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert progress(api, job_id, **{"If-None-Match": '"other", ' + tag}).status_code == 304
    assert progress(api, job_id, **{"If-None-Match": "*"}).status_code == 304


def test_the_etag_changes_with_everything_a_poll_shows(api, file_id):
    blocker, job_id = api.start(file_id), api.start(file_id)
    tags = [progress(api, job_id).headers["etag"]]

    def note(what):
        answer = progress(api, job_id, **{"If-None-Match": tags[-1]})
        assert answer.status_code == 200, what
        tags.append(answer.headers["etag"])

    api.tick()
    note("a better place in the queue")
    end(api, blocker, JobState.SUCCEEDED)
    api.tick()
    note("running")
    work(api, job_id, 1)
    note("an epoch")
    with api.parts.database.writing() as session:
        finding = finding_store.to_row(split_findings(10, 1, shared=False)[0])
        session.add(JobFinding(job_id=job_id, finding=finding))
        session.get_one(Job, job_id).touch()
    note("a finding")
    api.post(f"/train/jobs/{job_id}/cancel")
    note("a cancel request")
    api.launcher.die(job_id, -9)
    api.tick()
    note("another attempt")
    end(api, job_id, JobState.CANCELLED)
    note("cancelled")
    answer = api.post(f"/train/jobs/{job_id}/resume")
    assert answer.status_code == 202, answer.text
    note("queued again")
    assert len(set(tags)) == len(tags)


def test_the_etag_depends_on_the_question_too(api, file_id):
    job_id = api.start(file_id)
    answers = [
        progress(api, job_id),
        progress(api, job_id, "?since_epoch=0"),
        progress(api, job_id, **{"Accept-Language": "zh"}),
    ]
    assert len({answer.headers["etag"] for answer in answers}) == 3


def test_findings_of_a_job_follow_the_language_asked_for(api, file_id):
    job_id = api.start(file_id)
    with api.parts.database.writing() as session:
        finding = finding_store.to_row(split_findings(10, 1, shared=False)[0])
        session.add(JobFinding(job_id=job_id, finding=finding))
    english = progress(api, job_id).json()["findings"][0]
    chinese = progress(api, job_id, **{"Accept-Language": "zh-CN"}).json()["findings"][0]
    assert english["code"] == chinese["code"] == "few_validation_scans"
    assert "Only 1 scans are left for validation" in english["message"]
    assert "验证集只有 1 个扫描" in chinese["message"]


# --- lists -----------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_page_by_page_and_by_state(api, file_id):
    ids = [api.start(file_id) for _ in range(5)]
    api.tick()
    found, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/train/jobs?limit=2{cursor and '&cursor=' + cursor}").json()
        found += [item["job_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == ids[::-1]
    assert [item["job_id"] for item in api.get("/train/jobs?state=running").json()["items"]] == ids[:1]


def test_a_job_is_shown_with_config_and_attempts(api, file_id):
    job_id = api.start(file_id, epochs=3)
    api.tick()
    api.launcher.die(job_id, 1)
    api.tick()
    found = api.get(f"/train/jobs/{job_id}").json()
    assert (found["config"]["epochs"], found["plan"], found["state"]) == (3, None, "running")
    assert [(a["number"], a["ending"]) for a in found["attempts"]] == [
        (1, "the worker process ended with exit code 1"),
        (2, None),
    ]


@pytest.mark.parametrize("route", ["", "/epochs", "/gradients", "/log", "/events"])
def test_every_page_of_an_unknown_job_is_a_problem(api, route):
    answer = api.get(f"/train/jobs/nope{route}")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:octa:job-not-found")


# --- cancel, resume, delete ------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked(api, file_id):
    running, waiting = api.start(file_id), api.start(file_id)
    api.tick()
    for job_id, state in ((waiting, "cancelled"), (running, "running")):
        answer = api.post(f"/train/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, state)
        assert progress(api, job_id).json()["cancel_requested"]


def test_a_job_that_is_over_is_resumed_with_changes(api, file_id):
    job_id = api.start(file_id, epochs=5)
    api.tick()
    work(api, job_id, 5)
    end(api, job_id, JobState.SUCCEEDED)
    refused = api.post(f"/train/jobs/{job_id}/resume")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:illegal-job-state")
    answer = api.post(f"/train/jobs/{job_id}/resume", json={"epochs": 9, "lr": 0.002})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["location"] == f"/train/progress/{job_id}"
    config = api.get(f"/train/jobs/{job_id}").json()["config"]
    assert (config["epochs"], config["lr"]) == (9, 0.002)
    api.tick()
    assert api.launcher.jobs == [job_id, job_id]


def test_a_resume_out_of_range_is_refused(api, file_id):
    job_id = api.start(file_id)
    api.post(f"/train/jobs/{job_id}/cancel")
    answer = api.post(f"/train/jobs/{job_id}/resume", json={"lr": 7})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-config")
    assert progress(api, job_id).json()["state"] == "cancelled"


def test_a_job_is_deleted_with_its_folder_but_not_while_it_runs(api, file_id):
    job_id = api.start(file_id)
    api.tick()
    api.parts.files.job(job_id).mkdir(parents=True)
    refused = api.delete(f"/train/jobs/{job_id}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:illegal-job-state")
    assert api.traces()["jobs"] == [job_id]
    end(api, job_id, JobState.FAILED)
    assert api.delete(f"/train/jobs/{job_id}").status_code == 204
    assert api.traces()["jobs"] == []
    assert progress(api, job_id).status_code == 404


def test_a_deleted_job_whose_files_are_held_is_gone_and_its_folder_goes_at_the_next_start(api, file_id, monkeypatch):
    job_id = api.start(file_id)
    api.parts.files.checkpoints(job_id).mkdir(parents=True)
    assert api.post(f"/train/jobs/{job_id}/cancel").status_code == 202

    def refuse(*given, **options):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr("octa_backend.storage.files.Path.replace", refuse)
        patch.setattr("octa_backend.storage.files.shutil.rmtree", refuse)
        assert api.delete(f"/train/jobs/{job_id}").status_code == 204
    assert progress(api, job_id).status_code == 404
    assert api.traces()["jobs"] == [job_id]
    api.parts.files.prepare()
    assert api.traces()["jobs"] == []


# --- weights to begin with --------------------------------------------------------------------------------------------


def test_a_training_may_begin_with_a_model_of_the_shelf(api, file_id):
    with api.parts.database.writing() as session:
        job = a_job(session, file_id=file_id)
        model_service.register(session, "theirs-e3", job, {})
    answer = api.post(f"/train/start-with-file/{file_id}", data={"pretrained": "theirs-e3"})
    assert answer.status_code == 202
    assert api.get(f"/train/jobs/{answer.json()['job_id']}").json()["config"]["pretrained"] == "theirs-e3"


@pytest.mark.parametrize("name", ["nope", "/etc/passwd", "../models/theirs", "weights.pt"])
def test_a_training_may_not_begin_with_a_file_of_the_server(api, name):
    before = api.traces()
    answer = api.upload(ZIP, "/train/start-with-file", pretrained=name)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-config")
    assert f"pretrained={name!r}: no model has this id; send the model_id of a finished job" in answer.json()["detail"]
    assert "a client must not have the server read its files" in answer.json()["detail"]
    assert api.traces() == before


def test_a_training_on_pictures_may_not_begin_with_a_model_of_volumes(api, file_id):
    with api.parts.database.writing() as session:
        model_service.register(session, "of-volumes", a_job(session, file_id=file_id), {"spatial_dims": 3})
    answer = api.post(f"/train/start-with-file/{file_id}", data={"pretrained": "of-volumes"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-config")
    said = "pretrained='of-volumes' was trained on volumes, but the dataset holds pictures; choose a model of pictures"
    assert answer.json()["detail"] == said


# --- epochs ----------------------------------------------------------------------------------------------------------


def test_every_report_says_how_long_a_batch_took(api, file_id):
    job_id = api.start(file_id)
    with api.parts.database.writing() as session:
        planned = TrainConfig(precision="fp32", batch_size=4, epochs=9, model="unet")
        session.get_one(Job, job_id).plan = {"device": "cpu", "config": planned.model_dump(mode="json")}
    work(api, job_id, 1)  # 8 scans per second
    assert progress(api, job_id).json()["latest"]["seconds_per_batch"] == 0.5
    assert api.get(f"/train/jobs/{job_id}/epochs").json()["items"][0]["seconds_per_batch"] == 0.5


def test_a_deleted_job_takes_its_tensorboard_files_along(api, file_id):
    job_id = api.start(file_id)
    folder = api.parts.files.tensorboard(job_id)
    (folder / "steps").mkdir(parents=True)
    api.post(f"/train/jobs/{job_id}/cancel")
    assert api.delete(f"/train/jobs/{job_id}").status_code == 204
    assert not folder.exists()
