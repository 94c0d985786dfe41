from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from octa_backend.diagnosis.training import split_findings
from octa_backend.errors import DatasetNotFound, IllegalJobState, InvalidConfig, InvalidCursor, JobNotFound
from octa_backend.service import attempt_service, finding_store, train_service
from octa_backend.service.paging import cursor_of
from octa_backend.storage.tables import Attempt, EpochReport, GradientNorm, Job, JobFinding, JobState, Model
from octa_backend.training.config import TrainConfig
from tests.fakes import a_dataset, a_job, add_epochs


def running(database, **columns):
    """A job that is being worked on."""
    with database.writing() as session:
        job_id = a_job(session, **columns).id
        attempt_service.claim_next(session, 99)
    return job_id


def ended(database, state, epochs=10, finished=0):
    """A job that is over, with `finished` epochs of `epochs`."""
    with database.writing() as session:
        job = a_job(session, epochs=epochs)
        add_epochs(session, job, finished)
        job.move_to(JobState.RUNNING)
        job.move_to(state)
        return job.id


def all_rows(fetch, limit):
    """Walk the pages of a list; returns its rows."""
    found, cursor = [], None
    while True:
        page = fetch(limit, cursor)
        assert len(page.rows) <= limit
        found += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return found


# --- starting and configs --------------------------------------------------------------------------------------------


def test_a_started_job_waits_with_its_config(database):
    with database.writing() as session:
        file_id = a_dataset(session).id
        job = train_service.start(session, file_id, TrainConfig(epochs=12, lr=1e-3), parent_job_id="p")
    assert (job.state, job.file_id, job.parent_job_id, job.attempt) == ("queued", file_id, "p", 0)
    assert TrainConfig.model_validate(job.config) == TrainConfig(epochs=12, lr=1e-3)


def test_a_job_on_an_unknown_dataset_is_refused(database):
    with pytest.raises(DatasetNotFound, match="'nope'"), database.writing() as session:
        train_service.start(session, "nope", TrainConfig())


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({"epochs": 0}, "epochs=0: Input should be greater than or equal to 1"),
        ({"lr": "-1"}, "lr='-1': Input should be greater than 0"),
        ({"lr": "nan"}, "lr='nan': Input should be a finite number"),
        ({"epochs": "abc"}, "epochs='abc': .*integer"),
        ({"epoch": 5}, "epoch is not a field of the training configuration; did you mean epochs?"),
        ({"model": "resnet"}, "no network is called 'resnet'; choose one of: unet_transformer, unet"),
        ({"bce_weight": 0, "dice_weight": 0}, "^bce_weight and dice_weight are both 0; at least one must be above 0$"),
        ({"patch_size": "huge"}, "patch_size='huge'"),
        ({"epochs": 0, "lr": 5}, "epochs=0.*; lr=5"),
    ],
)
def test_a_config_that_is_not_valid_names_each_field_that_is_wrong(values, phrase):
    with pytest.raises(InvalidConfig, match=phrase):
        train_service.read_config(values)


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_of_jobs_show_every_job_once_newest_first(database, limit):
    moments = [datetime(2024, 1, day, 3, 4, 5, micro, UTC) for day in (1, 1, 1, 2) for micro in (0, 500_000)]
    with database.writing() as session:
        jobs = [a_job(session, created_at=moment) for moment in moments[:7]]
    expected = [job.id for job in sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)]
    with database.reading() as session:
        found = all_rows(lambda *place: train_service.list_jobs(session, None, *place), limit)
    assert [job.id for job in found] == expected


def test_jobs_can_be_listed_by_state(database):
    over = ended(database, JobState.FAILED)
    with database.writing() as session:
        waits = a_job(session).id
    with database.reading() as session:
        for state, expected in ((JobState.FAILED, [over]), (JobState.QUEUED, [waits]), (JobState.RUNNING, [])):
            assert [job.id for job in train_service.list_jobs(session, state, 10, None).rows] == expected


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
def test_pages_of_reports_and_gradients_show_every_row_once_in_order(database, limit):
    with database.writing() as session:
        job = a_job(session)
        add_epochs(session, job, 5)
    with database.reading() as session:
        reports = all_rows(lambda *place: train_service.epoch_reports(session, job.id, *place), limit)
        norms = all_rows(lambda *place: train_service.gradient_norms(session, job.id, *place), limit)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    assert [(norm.epoch, norm.step) for norm in norms] == [(e, s) for e in range(1, 6) for s in (1, 2)]


@pytest.mark.parametrize("cursor", ["nonsense", "W10", "!!!", cursor_of("x", "y"), cursor_of(1), "é"])
def test_a_cursor_that_is_none_is_refused(database, cursor):
    with pytest.raises(InvalidCursor, match="take next_cursor of its last page"), database.reading() as session:
        train_service.list_jobs(session, None, 10, cursor)


@pytest.mark.parametrize("question", ["get", "progress", "epoch_reports", "gradient_norms", "request_cancel", "remove"])
def test_every_question_about_an_unknown_job_says_so(database, question):
    more = {"progress": (None,), "epoch_reports": (5, None), "gradient_norms": (5, None)}.get(question, ())
    with pytest.raises(JobNotFound, match="'nope'"), database.writing() as session:
        getattr(train_service, question)(session, "nope", *more)


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_before_the_first_epoch_holds_the_place_in_the_queue_only(database):
    with database.writing() as session:
        ids = [a_job(session).id for _ in range(3)]
    with database.reading() as session:
        found = [train_service.progress(session, job_id, None) for job_id in ids]
    assert [progress.queue_position for progress in found] == [1, 2, 3]
    assert all(progress.latest is None and not progress.epochs_since for progress in found)


@pytest.mark.parametrize(("since", "epochs"), [(None, []), (0, [1, 2, 3]), (2, [3]), (3, []), (99, [])])
def test_progress_sends_the_reports_after_an_epoch_where_one_is_named(database, since, epochs):
    with database.writing() as session:
        job = a_job(session)
        add_epochs(session, job, 3)
    with database.reading() as session:
        found = train_service.progress(session, job.id, since)
    assert found.latest.epoch == 3
    assert [report.epoch for report in found.epochs_since] == epochs


def test_a_client_far_behind_gets_the_reports_in_portions(database, monkeypatch):
    monkeypatch.setattr(train_service, "MAX_EPOCHS_SINCE", 2)
    with database.writing() as session:
        job = a_job(session)
        add_epochs(session, job, 5)
    seen = [0]
    with database.reading() as session:
        while since := train_service.progress(session, job.id, seen[-1]).epochs_since:
            assert len(since) <= 2
            seen += [report.epoch for report in since]
    assert seen == [0, 1, 2, 3, 4, 5]


def test_the_log_is_empty_before_a_worker_started_and_whole_afterwards(database, files):
    with database.writing() as session:
        job_id = a_job(session).id
    with database.reading() as session:
        assert train_service.read_log(session, files, job_id, 10).text == ""
        files.job(job_id).mkdir(parents=True)
        files.job_log(job_id).write_bytes("epoch 1 é\n".encode() + b"\xff")
        page = train_service.read_log(session, files, job_id, 10)
    assert (page.text, page.start) == ("epoch 1 é\n\N{REPLACEMENT CHARACTER}", 0)


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(database):
    with database.writing() as session:
        job = train_service.request_cancel(session, a_job(session).id)
    assert (job.state, job.cancel_requested) == ("cancelled", True)
    assert job.finished_at is not None


def test_a_running_job_is_only_asked_to_stop_and_may_be_asked_twice(database):
    job_id = running(database)
    for _ in range(2):
        with database.writing() as session:
            job = train_service.request_cancel(session, job_id)
            assert (job.state, job.cancel_requested, job.finished_at) == ("running", True, None)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_is_over_cannot_be_cancelled(database, state):
    job_id = ended(database, state)
    with pytest.raises(IllegalJobState, match=f"is {state}; only a queued or running"), database.writing() as session:
        train_service.request_cancel(session, job_id)


# --- resume ----------------------------------------------------------------------------------------------------------


def resume(database, job_id, **changes):
    with database.writing() as session:
        return train_service.resume(session, job_id, changes)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_stopped_early_goes_on_with_what_is_left(database, state):
    job = resume(database, ended(database, state, epochs=10, finished=4))
    assert (job.state, job.epoch, job.config["epochs"], job.finished_at) == ("queued", 4, 10, None)


def test_a_resumed_job_may_get_more_epochs_and_another_rate_and_keeps_the_rest(database):
    job_id = ended(database, JobState.SUCCEEDED, epochs=10, finished=10)
    job = resume(database, job_id, epochs=15, lr=1e-4)
    assert TrainConfig.model_validate(job.config) == TrainConfig(epochs=15, lr=1e-4)


def test_a_resumed_job_forgets_why_it_stopped_and_joins_the_end_of_the_queue(database):
    job_id = ended(database, JobState.FAILED, finished=1)
    with database.writing() as session:
        job = session.get_one(Job, job_id)
        job.error, job.crashes, job.cancel_requested, job.log_tail = "died", 3, True, ["last words"]
        a_job(session)
    job = resume(database, job_id)
    assert (job.error, job.crashes, job.cancel_requested, job.log_tail) == (None, 0, False, [])
    with database.reading() as session:
        assert train_service.queue_position(session, job) == 2


@pytest.mark.parametrize("epochs", [1, 9, 10])
def test_a_job_with_nothing_left_to_do_is_not_resumed(database, epochs):
    job_id = ended(database, JobState.SUCCEEDED, epochs=10, finished=10)
    with pytest.raises(IllegalJobState, match=f"has finished epoch 10 of {epochs}; resume it with more epochs"):
        resume(database, job_id, epochs=epochs)


def with_open_epochs(database, planned, finished=0):
    """A failed job that left its epochs open; `planned` of them stand in its plan, or it has none."""
    job_id = ended(database, JobState.FAILED, epochs="auto", finished=finished)
    with database.writing() as session:
        session.get_one(Job, job_id).plan = planned and {"config": {"epochs": planned}}
    return job_id


@pytest.mark.parametrize(("planned", "shown"), [(None, None), (125, 125)])
def test_a_field_that_was_left_open_is_the_plans_once_there_is_one(database, planned, shown):
    job_id = with_open_epochs(database, planned)
    with database.reading() as session:
        job = session.get_one(Job, job_id)
        assert job.planned("epochs") == shown
        assert job.planned("lr") == 0.001


@pytest.mark.parametrize(("planned", "finished"), [(None, 0), (125, 7)])
def test_a_job_that_left_its_epochs_open_goes_on_to_those_of_its_plan(database, planned, finished):
    job_id = with_open_epochs(database, planned, finished)
    with database.writing() as session:
        assert train_service.resume(session, job_id, {}).config["epochs"] == "auto"


def test_a_job_is_not_resumed_with_fewer_epochs_than_it_has_finished_of_its_plan(database):
    job_id = with_open_epochs(database, planned=6, finished=7)
    with pytest.raises(IllegalJobState, match="finished epoch 7 of 6"), database.writing() as session:
        train_service.resume(session, job_id, {})


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"lr": 2.0}, {"lr": -1.0}])
def test_a_resume_with_a_value_out_of_range_is_refused_and_changes_nothing(database, changes):
    job_id = ended(database, JobState.FAILED, finished=1)
    with pytest.raises(InvalidConfig, match=next(iter(changes))):
        resume(database, job_id, **changes)
    with database.reading() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.config["epochs"]) == ("failed", 10)


def test_a_job_that_waits_or_runs_is_not_resumed(database):
    with database.writing() as session:
        waiting = a_job(session).id
    with pytest.raises(IllegalJobState, match="is queued; only a job that is over"):
        resume(database, waiting)
    with database.writing() as session:
        attempt_service.claim_next(session, 1)
    with pytest.raises(IllegalJobState, match="is running; only a job that is over"):
        resume(database, waiting)


# --- delete ----------------------------------------------------------------------------------------------------------


def test_a_running_job_is_not_deleted(database):
    job_id = running(database)
    with pytest.raises(IllegalJobState, match="is running; cancel it first"), database.writing() as session:
        train_service.remove(session, job_id)


def test_a_deleted_job_takes_its_rows_along_and_leaves_its_model_and_other_jobs(database):
    job_id = ended(database, JobState.SUCCEEDED, finished=3)
    other = ended(database, JobState.SUCCEEDED, finished=2)
    with database.writing() as session:
        finding = finding_store.to_row(train_findings())
        session.add(JobFinding(job_id=job_id, finding=finding))
        session.add(Attempt(job_id=job_id, number=1))
        session.add(Model(id="m", job_id=job_id, file_id="d", card={}))
    with database.writing() as session:
        train_service.remove(session, job_id)
    with database.reading() as session:
        for table in (EpochReport, GradientNorm, JobFinding, Attempt):
            assert session.scalar(select(func.count()).select_from(table).where(table.job_id == job_id)) == 0
        assert session.get(Model, "m") is not None
        assert len(train_service.epoch_reports(session, other, 10, None).rows) == 2


def train_findings():

    return split_findings(10, 1, shared=False)[0]
