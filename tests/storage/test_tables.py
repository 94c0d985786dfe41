from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from octa_backend.errors import IllegalJobState
from octa_backend.storage.tables import LEGAL_MOVES, Dataset, Job, JobState, new_id
from tests.fakes import a_dataset, a_job

FINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def test_a_time_comes_back_in_utc_whatever_zone_it_went_in_with(database):
    moment = datetime(2024, 3, 10, 1, 30, 15, 123456, tzinfo=timezone(timedelta(hours=8)))
    with database.writing() as session:
        a_dataset(session, created_at=moment)
    with database.reading() as session:
        found = session.scalars(select(Dataset.created_at)).one()
        assert (found, found.tzinfo) == (moment, UTC)
        assert session.scalars(select(Dataset).where(Dataset.created_at == moment)).one()
        stored = session.connection().exec_driver_sql("SELECT created_at FROM datasets").scalar()
        assert stored == "2024-03-09 17:30:15.123456"


def test_a_time_that_is_not_known_stays_unknown(database):
    with database.writing() as session:
        job_id = a_job(session).id
    with database.reading() as session:
        assert session.get_one(Job, job_id).finished_at is None


@pytest.mark.parametrize("before", JobState)
@pytest.mark.parametrize("after", JobState)
def test_only_legal_moves_are_made(before, after):
    job = Job(id="j", state=before, version=5)
    if after in LEGAL_MOVES[before]:
        job.move_to(after)
        assert (job.state, job.version) == (after, 6)
    else:
        with pytest.raises(IllegalJobState, match=f"job j is {before}; it cannot become {after}"):
            job.move_to(after)
        assert (job.state, job.version) == (before, 5)


def test_the_states_that_are_final():
    assert {state for state in JobState if state.is_final} == FINAL
    assert all(LEGAL_MOVES[state] == {JobState.QUEUED} for state in FINAL)


def test_a_job_that_ends_is_dated_and_one_that_is_resumed_is_not_over_any_more():
    job = Job(id="j", state=JobState.RUNNING, version=1)
    job.move_to(JobState.FAILED)
    ended = job.finished_at
    assert ended is not None
    job.move_to(JobState.QUEUED)
    assert job.finished_at is None
    assert job.queued_at > ended


def test_a_job_whose_worker_died_keeps_its_place_in_the_queue():
    early = datetime(2020, 1, 1, tzinfo=UTC)
    job = Job(id="j", state=JobState.RUNNING, version=1, queued_at=early)
    job.move_to(JobState.QUEUED)
    assert job.queued_at == early


def test_ids_are_opaque_and_differ():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in ids)
