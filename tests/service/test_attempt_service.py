from __future__ import annotations

import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from shutil import copyfile

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select

from octa_backend.errors import IllegalJobState, JobNotFound
from octa_backend.service import attempt_service, train_service
from octa_backend.service.process import ProcessMark
from octa_backend.storage.database import Database
from octa_backend.storage.tables import Attempt, Job, JobState, now
from octa_backend.training.config import TrainConfig
from tests.fakes import a_dataset, a_job

MAX_ATTEMPTS = 3
PLACES = 2
FILE_ID = "d" * 20


# --- claiming --------------------------------------------------------------------------------------------------------


def claim(database, places=1):
    with database.writing() as session:
        return attempt_service.claim_next(session, places)


def test_the_job_that_has_waited_longest_is_claimed_first(database):
    with database.writing() as session:
        ids = [a_job(session).id for _ in range(3)]
    attempts = [claim(database, places=3) for _ in range(3)]
    assert [attempt.job_id for attempt in attempts] == ids
    assert claim(database, places=4) is None


def test_no_job_is_claimed_while_all_places_are_taken(database):
    with database.writing() as session:
        a_job(session)
        a_job(session)
    first = claim(database)
    assert claim(database) is None
    with database.writing() as session:
        attempt_service.end(session, first.id, "finished").move_to(JobState.SUCCEEDED)
    assert claim(database) is not None


def test_a_claim_makes_a_numbered_attempt_and_a_running_job(database):
    with database.writing() as session:
        job_id = a_job(session).id
    attempt = claim(database)
    with database.reading() as session:
        job = session.get_one(Job, job_id)
    assert (job.state, job.attempt, job.version) == ("running", 1, 2)
    assert job.started_at is not None
    assert (attempt.job_id, attempt.number, attempt.pid, attempt.ended_at) == (job_id, 1, None, None)


def test_two_servers_and_their_threads_never_get_the_same_job(settings, database):
    with database.writing() as session:
        ids = {a_job(session).id for _ in range(24)}
    databases = [database, Database(settings.effective_database_url)]
    claimed: list[str] = []
    start = threading.Barrier(4)

    def take_all(own: Database) -> None:
        start.wait()
        while (attempt := claim(own, places=100)) is not None:
            claimed.append(attempt.job_id)

    threads = [threading.Thread(target=take_all, args=(databases[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    databases[1].close()
    assert len(claimed) == 24
    assert set(claimed) == ids


def test_two_servers_never_run_more_than_there_are_places(settings, database):
    with database.writing() as session:
        for _ in range(8):
            a_job(session)
    databases = [database, Database(settings.effective_database_url)]
    claimed: list[str | None] = []
    start = threading.Barrier(4)

    def take_one(own: Database) -> None:
        start.wait()
        attempt = claim(own, places=2)
        claimed.append(attempt and attempt.job_id)

    threads = [threading.Thread(target=take_one, args=(databases[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    databases[1].close()
    assert len([found for found in claimed if found]) == 2


# --- the life of an attempt ------------------------------------------------------------------------------------------


@pytest.fixture
def attempt(database) -> Attempt:
    """An attempt at the one job there is."""
    with database.writing() as session:
        a_job(session)
    return claim(database)


def test_a_beat_renews_the_heartbeat(database, attempt):
    with database.writing() as session:
        session.get_one(Attempt, attempt.id).heartbeat_at = now() - timedelta(hours=1)
    with database.writing() as session:
        assert attempt_service.beat(session, attempt.id)
    with database.reading() as session:
        assert now() - session.get_one(Attempt, attempt.id).heartbeat_at < timedelta(minutes=1)


def test_an_attempt_that_is_over_cannot_beat_and_is_closed_once(database, attempt):
    with database.writing() as session:
        assert attempt_service.end(session, attempt.id, "finished") is not None
    with database.writing() as session:
        assert not attempt_service.beat(session, attempt.id)
        assert not attempt_service.is_current(session, attempt.id)
        assert attempt_service.end(session, attempt.id, "again") is None
        assert attempt_service.crashed(session, attempt.id, "again", 1, []) is None
    with database.reading() as session:
        assert session.get_one(Attempt, attempt.id).ending == "finished"


def test_an_attempt_whose_job_was_deleted_is_not_current(database, attempt):
    with database.writing() as session:
        attempt_service.crashed(session, attempt.id, "killed", MAX_ATTEMPTS, [])
    with database.writing() as session:
        train_service.remove(session, attempt.job_id)
    with database.writing() as session:
        assert not attempt_service.beat(session, attempt.id)
        assert not attempt_service.is_current(session, attempt.id)


@pytest.mark.parametrize("mark", [ProcessMark(4711, 12.5), ProcessMark(4711, 12.5, "this boot")])
def test_the_process_of_an_attempt_is_recorded(database, attempt, mark):
    assert attempt_service.mark_of(attempt) is None
    with database.writing() as session:
        attempt_service.record_process(session, attempt.id, mark)
    with database.reading() as session:
        assert attempt_service.mark_of(session.get_one(Attempt, attempt.id)) == mark


def test_a_job_whose_worker_dies_is_queued_until_too_many_have_died(database):
    with database.writing() as session:
        job_id = a_job(session).id
    for crash in range(1, MAX_ATTEMPTS + 1):
        attempt = claim(database)
        with database.writing() as session:
            job = attempt_service.crashed(session, attempt.id, "the worker died", MAX_ATTEMPTS, [f"line {crash}"])
            expected = JobState.FAILED if crash == MAX_ATTEMPTS else JobState.QUEUED
            assert (job.id, job.state, job.crashes, job.log_tail) == (job_id, expected, crash, [f"line {crash}"])
    assert job.error == "the worker died. 3 worker processes died over this job, so it is not tried again."
    assert job.finished_at is not None


@pytest.mark.parametrize(("epoch", "state"), [(0, JobState.CANCELLED), (1, JobState.QUEUED)])
def test_a_job_whose_worker_dies_after_a_cancel_request_is_tried_again_only_to_publish(database, attempt, epoch, state):
    with database.writing() as session:
        train_service.request_cancel(session, attempt.job_id).epoch = epoch
        assert attempt_service.cancel_requested(session, attempt.job_id)
    with database.writing() as session:
        job = attempt_service.crashed(session, attempt.id, "died", MAX_ATTEMPTS, [])
        assert (job.state, job.cancel_requested) == (state, True)


def test_a_job_that_was_asked_to_stop_is_cancelled_once_too_many_workers_have_died_over_it(database, attempt):
    with database.writing() as session:
        job = train_service.request_cancel(session, attempt.job_id)
        job.epoch, job.crashes = 1, MAX_ATTEMPTS - 1
    with database.writing() as session:
        job = attempt_service.crashed(session, attempt.id, "it hung", MAX_ATTEMPTS, [])
        assert job.state == JobState.CANCELLED
        assert job.error.startswith("it hung. 3 worker processes died over this job")


# --- all of it at once: a state machine ------------------------------------------------------------------------------


class JobLife(RuleBasedStateMachine):
    """Users and workers do what they like in any order; the model beside it knows what must come out."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        copyfile(self.template, Path(self.folder.name) / "octa.sqlite3")
        self.database = Database(f"sqlite:///{self.folder.name}/octa.sqlite3")
        with self.database.writing() as session:
            a_dataset(session, FILE_ID)
        self.states: dict[str, JobState] = {}
        self.crashes: dict[str, int] = {}
        self.cancel_asked: set[str] = set()
        self.finished_epochs: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.line: list[str] = []  # ids of the jobs in the order in which they queued last
        self.open: dict[str, str] = {}  # job -> its open attempt
        self.closed: list[str] = []
        self.numbers: dict[str, int] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def pick(self, number: int) -> str:
        return sorted(self.states)[number % len(self.states)]

    def waiting(self) -> list[str]:
        return [job for job in self.line if self.states[job] == JobState.QUEUED]

    def settle(self, job: str, state: JobState) -> None:
        """The job's attempt is over."""
        self.closed.append(self.open.pop(job))
        self.states[job] = state

    @precondition(lambda self: len(self.states) < 8)
    @rule(epochs=st.integers(1, 5))
    def start(self, epochs):
        with self.database.writing() as session:
            job = train_service.start(session, FILE_ID, TrainConfig(epochs=epochs)).id
        self.states[job], self.crashes[job], self.finished_epochs[job] = JobState.QUEUED, 0, 0
        self.epochs[job], self.numbers[job] = epochs, 0
        self.line.append(job)

    @rule()
    def claim(self):
        attempt = claim(self.database, PLACES)
        running = [job for job, state in self.states.items() if state == JobState.RUNNING]
        if len(running) >= PLACES or not self.waiting():
            assert attempt is None
            return
        assert attempt.job_id == self.waiting()[0]
        self.numbers[attempt.job_id] += 1
        assert attempt.number == self.numbers[attempt.job_id]
        self.states[attempt.job_id], self.open[attempt.job_id] = JobState.RUNNING, attempt.id

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9))
    def crash(self, number):
        job = sorted(self.open)[number % len(self.open)]
        with self.database.writing() as session:
            found = attempt_service.crashed(session, self.open[job], "died", MAX_ATTEMPTS, ["last words"])
        self.crashes[job] += 1
        if job in self.cancel_asked and self.finished_epochs[job] == 0:
            self.settle(job, JobState.CANCELLED)
        elif self.crashes[job] >= MAX_ATTEMPTS:
            self.settle(job, JobState.CANCELLED if job in self.cancel_asked else JobState.FAILED)
            assert "3 worker processes died" in found.error
        else:
            self.settle(job, JobState.QUEUED)
            assert found.error is None

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 9), outcome=st.sampled_from(["succeeded", "cancelled", "failed"]))
    def finish(self, number, outcome):
        job = sorted(self.open)[number % len(self.open)]
        with self.database.writing() as session:
            row = attempt_service.end(session, self.open[job], outcome)
            row.epoch = row.config["epochs"] if outcome == "succeeded" else row.epoch
            row.move_to(JobState(outcome))
            self.finished_epochs[job] = row.epoch
        self.settle(job, JobState(outcome))

    @precondition(lambda self: self.closed)
    @rule(number=st.integers(0, 99))
    def an_attempt_that_is_over_wakes_up(self, number):
        attempt = self.closed[number % len(self.closed)]
        with self.database.writing() as session:
            assert not attempt_service.beat(session, attempt)
            assert attempt_service.end(session, attempt, "late") is None

    @precondition(lambda self: self.states)
    @rule(number=st.integers(0, 9))
    def cancel(self, number):
        job = self.pick(number)
        if self.states[job].is_final:
            with pytest.raises(IllegalJobState), self.database.writing() as session:
                train_service.request_cancel(session, job)
            return
        with self.database.writing() as session:
            assert train_service.request_cancel(session, job).cancel_requested
        self.cancel_asked.add(job)
        if self.states[job] == JobState.QUEUED:
            self.states[job] = JobState.CANCELLED

    @precondition(lambda self: self.states)
    @rule(number=st.integers(0, 9), more=st.integers(0, 2))
    def resume(self, number, more):
        job = self.pick(number)
        epochs = self.epochs[job] + more
        legal = self.states[job].is_final and epochs > self.finished_epochs[job]
        if not legal:
            with pytest.raises(IllegalJobState), self.database.writing() as session:
                train_service.resume(session, job, {"epochs": epochs})
            return
        with self.database.writing() as session:
            row = train_service.resume(session, job, {"epochs": epochs})
            assert (row.crashes, row.cancel_requested, row.error, row.finished_at) == (0, False, None, None)
        self.states[job], self.crashes[job], self.epochs[job] = JobState.QUEUED, 0, epochs
        self.cancel_asked.discard(job)
        self.line.remove(job)
        self.line.append(job)

    @precondition(lambda self: self.states)
    @rule(number=st.integers(0, 9))
    def delete(self, number):
        job = self.pick(number)
        if self.states[job] == JobState.RUNNING:
            with pytest.raises(IllegalJobState), self.database.writing() as session:
                train_service.remove(session, job)
            return
        with self.database.writing() as session:
            train_service.remove(session, job)
        with pytest.raises(JobNotFound), self.database.reading() as session:
            train_service.get(session, job)
        del self.states[job]
        self.line.remove(job)

    @invariant()
    def rows_are_as_the_model_says(self):
        with self.database.reading() as session:
            jobs = {job.id: job for job in session.scalars(select(Job))}
            attempts = session.scalars(select(Attempt).where(Attempt.ended_at.is_(None))).all()
            positions = {job.id: train_service.queue_position(session, job) for job in jobs.values()}
        assert {job.id: job.state for job in jobs.values()} == self.states
        assert {attempt.job_id: attempt.id for attempt in attempts} == self.open
        assert sum(job.state == JobState.RUNNING for job in jobs.values()) == len(self.open) <= PLACES
        waiting = {job: place for place, job in enumerate(self.waiting(), start=1)}
        assert {job: place for job, place in positions.items() if place is not None} == waiting
        for job in jobs.values():
            assert job.crashes == self.crashes[job.id] <= MAX_ATTEMPTS
            assert (job.finished_at is not None) == JobState(job.state).is_final


def test_jobs_live_by_the_rules_whatever_happens(migrated):
    JobLife.template = migrated
    run_state_machine_as_test(
        JobLife,
        settings=hypothesis_settings(max_examples=12, stateful_step_count=25, deadline=None, database=None),
    )
