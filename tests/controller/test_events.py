from __future__ import annotations

import asyncio
import json
import threading

import pytest

from octa_backend.controller import job_events
from octa_backend.diagnosis.training import split_findings
from octa_backend.service import attempt_service, finding_store
from octa_backend.storage.tables import EpochReport, Job, JobFinding, JobState
from tests.fakes import add_epochs, an_epoch, wait_for


def read(text):
    """The events of a stream: (event, id, data)."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


def follow(api, job_id, last_event_id=None, **headers):
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    return api.get(f"/train/jobs/{job_id}/events", headers=headers)


@pytest.fixture
def over(api, file_id):
    """A job that is over, with three epochs and a finding."""
    job_id = api.start(file_id, epochs=3)
    api.tick()
    with api.parts.database.writing() as session:
        add_epochs(session, session.get_one(Job, job_id), 3)
        finding = finding_store.to_row(split_findings(10, 1, shared=False)[0])
        session.add(JobFinding(job_id=job_id, finding=finding))
        attempt_service.end(session, attempt_service.open_attempts(session)[0].id, "").move_to(JobState.SUCCEEDED)
    return job_id


def test_a_job_that_is_over_is_told_in_order_and_the_stream_ends(api, over):
    answer = follow(api, over)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read(answer.text)
    assert [event for event, _, _ in events] == ["epoch", "epoch", "epoch", "finding", "state"]
    assert [data["epoch"] for event, _, data in events if event == "epoch"] == [1, 2, 3]
    assert events[-1][2]["state"] == "succeeded"
    assert events[-1][2]["latest"]["epoch"] == 3


def test_every_id_resumes_behind_its_event_without_repeats(api, over):
    events = read(follow(api, over).text)
    for position, (_, event_id, _) in enumerate(events):
        assert read(follow(api, over, event_id).text) == events[position + 1 :]


def test_findings_follow_the_language_asked_for(api, over):
    events = read(follow(api, over, **{"Accept-Language": "zh"}).text)
    assert "验证集" in next(data for event, _, data in events if event == "finding")["message"]


@pytest.mark.parametrize("wrong", ["x", "1-2", "a-b-c", "1-2-3-4", "", "1.5-0-x"])
def test_a_wrong_id_is_a_problem_document(api, over, wrong):
    answer = follow(api, over, wrong)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["type"] == "urn:octa:invalid-cursor"


def test_an_id_with_a_number_beyond_any_bound_is_a_problem_document(api, over):
    assert follow(api, over, "99999999999999999999-0-running").status_code == 422


def test_a_job_is_followed_while_it_runs(api, file_id, monkeypatch):
    monkeypatch.setattr("octa_backend.controller.job_events.POLL_SECONDS", 0.02)
    looks: list[int] = []

    original = job_events._news
    monkeypatch.setattr(job_events, "_news", lambda *given: (looks.append(1), original(*given))[1])
    job_id = api.start(file_id, epochs=2)
    answers = []
    reader = threading.Thread(target=lambda: answers.append(follow(api, job_id)))
    reader.start()

    def until_seen():
        seen = len(looks)
        wait_for("two more looks at the job", lambda: len(looks) >= seen + 2)

    until_seen()
    api.tick()
    until_seen()
    for epoch in (1, 2):
        with api.parts.database.writing() as session:
            columns = {name: getattr(an_epoch(epoch), name) for name in an_epoch(epoch).__slots__}
            session.add(EpochReport(job_id=job_id, **columns))
            session.get_one(Job, job_id).epoch = epoch
        until_seen()
    with api.parts.database.writing() as session:
        attempt_service.end(session, attempt_service.open_attempts(session)[0].id, "").move_to(JobState.SUCCEEDED)
    reader.join(20)
    told = [(event, data["epoch"] if event == "epoch" else data["state"]) for event, _, data in read(answers[0].text)]
    assert told == [("state", "queued"), ("state", "running"), ("epoch", 1), ("epoch", 2), ("state", "succeeded")]


def test_epochs_that_a_run_computes_anew_are_told_again(api, over):
    place = job_events.Place(over, epoch=3, finding=1, state="succeeded")
    with api.parts.database.writing() as session:  # as a run does that goes back to the checkpoint of epoch 1
        session.query(EpochReport).where(EpochReport.job_id == over, EpochReport.epoch > 1).delete()
        session.get_one(Job, over).epoch = 1
    told, place, _ = job_events._news(api.parts.database, place, "en")
    assert (told, place.epoch) == ([], 1)
    with api.parts.database.writing() as session:
        columns = {name: getattr(an_epoch(2), name) for name in an_epoch(2).__slots__}
        session.add(EpochReport(job_id=over, **columns))
        session.get_one(Job, over).epoch = 2
    told, place, _ = job_events._news(api.parts.database, place, "en")
    assert [(one.event, one.data.epoch) for one in told] == [("epoch", 2)]


def test_the_stream_of_a_job_that_is_deleted_ends_without_an_error(api, file_id, monkeypatch):
    monkeypatch.setattr("octa_backend.controller.job_events.POLL_SECONDS", 0.02)
    job_id = api.start(file_id)

    async def told():
        async for event in job_events.follow(api.parts.database, job_events.Place(job_id), "en"):
            yield event.event
            assert api.delete(f"/train/jobs/{job_id}").status_code == 204

    async def all_told():
        return [event async for event in told()]

    assert asyncio.run(all_told()) == ["state"]
