from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count

import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from octa_backend.errors import DeviceUnavailable
from octa_backend.service import attempt_service, train_service
from octa_backend.service.launcher import LocalLauncher
from octa_backend.service.process import ProcessMark
from octa_backend.service.supervisor import CANCEL_PATIENCE_SECONDS, PATIENCE_SECONDS, Supervisor, explain_exit
from octa_backend.storage.tables import Attempt, Job, JobState, now
from tests.fakes import FakeLauncher, HandSupervisor, a_job, wait_for


@pytest.fixture
def launcher():
    return FakeLauncher()


class Clock:
    """Stands still until a test lets time pass."""

    seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def supervisor(settings, files, database, launcher, clock):
    return HandSupervisor(settings, files, database, launcher, clock)


def queue(database, jobs=1):
    with database.writing() as session:
        return [a_job(session).id for _ in range(jobs)]


def job_of(database, job_id):
    with database.reading() as session:
        return session.get_one(Job, job_id)


def attempts_of(database, job_id):
    with database.reading() as session:
        return train_service.attempts(session, job_id)


def silence(supervisor, clock, seconds=PATIENCE_SECONDS + 1, meanwhile=lambda: None):
    """Let time pass in which no attempt is heard of."""
    end = clock.seconds + seconds
    while clock.seconds < end:
        meanwhile()
        supervisor.tick()
        clock.seconds = min(end, clock.seconds + 10)


def beat(database, at):
    with database.writing() as session:
        session.execute(update(Attempt).values(heartbeat_at=at))


def succeed(database, job_id):
    with database.writing() as session:
        attempt = train_service.attempts(session, job_id)[-1]
        attempt_service.end(session, attempt.id, "finished").move_to(JobState.SUCCEEDED)


def test_jobs_start_in_order_one_at_a_time(database, launcher, supervisor):
    ids = queue(database, 3)
    for number in (1, 2, 3):
        supervisor.tick()
        supervisor.tick()
        assert launcher.jobs == ids[:number]
        succeed(database, ids[number - 1])


def test_as_many_jobs_run_as_the_device_has_places(settings, files, database, launcher):
    ids = queue(database, 3)
    HandSupervisor(settings.model_copy(update={"jobs_per_device": 2}), files, database, launcher).tick()
    assert launcher.jobs == ids[:2]


def test_the_order_says_all_a_worker_needs_and_its_process_is_recorded(settings, files, database, launcher, supervisor):
    [job_id] = queue(database)
    supervisor.tick()
    [order], [attempt] = launcher.orders, attempts_of(database, job_id)
    assert (order.job_id, order.attempt_id) == (job_id, attempt.id)
    assert (order.data_dir, order.database_url) == (str(files.root), settings.effective_database_url)
    assert attempt_service.mark_of(attempt) == launcher.marks[job_id]


def test_a_dead_worker_is_noticed_and_its_job_started_again(database, files, launcher, supervisor):
    [job_id] = queue(database)
    supervisor.tick()
    files.job(job_id).mkdir(parents=True)
    files.job_log(job_id).write_text("epoch 1\nKilled\n")
    launcher.die(job_id, -9)
    supervisor.tick()
    job, (first, second) = job_of(database, job_id), attempts_of(database, job_id)
    assert (job.state, job.attempt, job.crashes, job.log_tail) == ("running", 2, 1, ["epoch 1", "Killed"])
    assert "signal 9" in first.ending
    assert (first.number, second.number, second.ended_at) == (1, 2, None)


def test_a_job_over_which_too_many_workers_died_fails_in_words_and_the_next_one_starts(database, launcher, supervisor):
    job_id, other = queue(database, 2)
    for _ in range(3):
        supervisor.tick()
        launcher.die(job_id, 1)
    supervisor.tick()
    job = job_of(database, job_id)
    assert (job.state, job.crashes) == ("failed", 3)
    assert job.error == (
        "the worker process ended with exit code 1. 3 worker processes died over this job, so it is not tried again."
    )
    assert launcher.jobs == [job_id] * 3 + [other]


def test_a_silent_worker_is_stopped_and_its_job_started_again(database, launcher, supervisor, clock):
    [job_id] = queue(database)
    supervisor.tick()
    mark = launcher.marks[job_id]
    silence(supervisor, clock)
    supervisor.tick()
    assert launcher.stopped == [mark]
    assert launcher.jobs == [job_id, job_id]
    assert attempts_of(database, job_id)[0].ending == (
        "the worker process gave no sign of life for 60 s and was stopped"
    )


def test_a_worker_that_is_quiet_for_less_than_the_patience_is_left_alone(database, launcher, supervisor, clock):
    queue(database)
    supervisor.tick()
    for seconds in range(3):
        silence(supervisor, clock, PATIENCE_SECONDS - 5)
        supervisor.tick()
        beat(database, now() + timedelta(seconds=seconds))
    assert (launcher.stopped, len(launcher.orders)) == ([], 1)


def test_ten_heartbeats_may_be_missed_where_they_are_rare(settings, files, database, launcher, clock):
    queue(database)
    supervisor = HandSupervisor(
        settings.model_copy(update={"heartbeat_seconds": 30.0}), files, database, launcher, clock
    )
    supervisor.tick()
    silence(supervisor, clock, 295)
    supervisor.tick()
    assert launcher.stopped == []
    silence(supervisor, clock, 10)
    supervisor.tick()
    assert len(launcher.stopped) == 1
    [job_id] = launcher.marks
    assert attempts_of(database, job_id)[0].ending == (
        "the worker process gave no sign of life for 300 s and was stopped"
    )


def beating(database):
    """Workers whose hearts beat, whatever else they do."""
    times = count()
    return lambda: beat(database, now() + timedelta(seconds=next(times)))


def cancel(database, job_id, epochs=0):
    with database.writing() as session:
        train_service.request_cancel(session, job_id).epoch = epochs


def test_a_worker_that_beats_but_does_not_end_when_asked_is_stopped_and_its_job_cancelled(
    database, launcher, supervisor, clock
):
    [job_id] = queue(database)
    supervisor.tick()
    silence(supervisor, clock, 2 * CANCEL_PATIENCE_SECONDS, beating(database))
    cancel(database, job_id)
    silence(supervisor, clock, CANCEL_PATIENCE_SECONDS, beating(database))
    assert (launcher.stopped, job_of(database, job_id).state) == ([], "running")
    silence(supervisor, clock, 20, beating(database))
    assert (launcher.stopped, job_of(database, job_id).state) == ([launcher.marks[job_id]], "cancelled")
    assert attempts_of(database, job_id)[0].ending == (
        "the worker process did not end within 300 s of a cancel and was stopped"
    )
    with database.writing() as session:
        assert train_service.remove(session, job_id) == [job_id]


def test_a_job_with_an_epoch_is_tried_again_to_publish_it_and_cancelled_where_that_hangs_too(
    database, launcher, supervisor, clock
):
    job_id, other = queue(database, 2)
    supervisor.tick()
    cancel(database, job_id, epochs=1)
    silence(supervisor, clock, CANCEL_PATIENCE_SECONDS + 20, beating(database))
    assert (launcher.jobs, job_of(database, job_id).state) == ([job_id, job_id], "running")
    silence(supervisor, clock, 2 * CANCEL_PATIENCE_SECONDS + 40, beating(database))
    assert (launcher.jobs, job_of(database, job_id).state) == ([job_id] * 3 + [other], "cancelled")


def test_time_in_which_the_machine_slept_does_not_count_for_a_cancel(database, launcher, supervisor, clock):
    [job_id] = queue(database)
    supervisor.tick()
    cancel(database, job_id)
    supervisor.tick()
    clock.seconds += 2 * CANCEL_PATIENCE_SECONDS
    silence(supervisor, clock, CANCEL_PATIENCE_SECONDS - 20, beating(database))
    assert launcher.stopped == []


def test_a_clock_that_is_set_forward_makes_no_worker_silent(database, launcher, supervisor):
    queue(database)
    supervisor.tick()
    beat(database, now() - timedelta(hours=1))
    supervisor.tick()
    supervisor.tick()
    assert (launcher.stopped, len(launcher.orders)) == ([], 1)


def test_a_worker_that_slept_with_the_machine_is_waited_for_once_more(database, launcher, supervisor, clock):
    queue(database)
    supervisor.tick()
    clock.seconds += 3600
    silence(supervisor, clock, PATIENCE_SECONDS - 5)
    supervisor.tick()
    assert launcher.stopped == []
    silence(supervisor, clock, 10)
    supervisor.tick()
    assert len(launcher.stopped) == 1


def test_an_attempt_without_a_process_is_waited_for_and_then_given_up(database, launcher, supervisor, clock):
    """A server that was killed between claiming the job and recording its worker."""
    [job_id] = queue(database)
    with database.writing() as session:
        attempt_service.claim_next(session, 1)
    supervisor.tick()
    assert launcher.orders == []
    silence(supervisor, clock)
    supervisor.tick()
    assert launcher.jobs == [job_id]
    assert attempts_of(database, job_id)[0].ending == "the worker process never started"


def test_a_new_server_adopts_the_workers_of_the_old_one(settings, files, database, launcher, supervisor):
    [job_id] = queue(database)
    supervisor.tick()
    HandSupervisor(settings, files, database, launcher).tick()
    assert (job_of(database, job_id).state, len(attempts_of(database, job_id))) == ("running", 1)


@pytest.mark.parametrize("refusal", [OSError("no more processes"), DeviceUnavailable("no cuda here")])
def test_a_worker_that_cannot_be_started_counts_as_a_crash(database, launcher, supervisor, refusal):
    [job_id] = queue(database)
    launcher.refusal = refusal
    supervisor.tick()
    job = job_of(database, job_id)
    assert (job.state, job.crashes) == ("queued", 1)
    assert attempts_of(database, job_id)[0].ending == f"the worker process could not be started: {refusal}"
    supervisor.tick()
    supervisor.tick()
    assert job_of(database, job_id).state == "failed"
    launcher.refusal = None


def test_a_job_that_was_asked_to_stop_is_cancelled_when_its_worker_dies_before_the_first_epoch_is_done(
    database, launcher, supervisor
):
    [job_id] = queue(database)
    supervisor.tick()
    with database.writing() as session:
        train_service.request_cancel(session, job_id)
    launcher.die(job_id, 0)
    supervisor.tick()
    assert (job_of(database, job_id).state, len(launcher.orders)) == ("cancelled", 1)


def test_a_worker_that_finished_and_exited_is_no_crash(database, launcher, supervisor):
    [job_id] = queue(database)
    supervisor.tick()
    succeed(database, job_id)
    launcher.die(job_id, 0)
    supervisor.tick()
    assert (job_of(database, job_id).state, job_of(database, job_id).crashes) == ("succeeded", 0)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "the worker process died"),
        (-9, "the worker process was killed (signal 9), often because the machine ran out of memory"),
        (-11, "the worker process was ended by signal 11"),
        (0, "the worker process ended with exit code 0"),
        (3, "the worker process ended with exit code 3"),
    ],
)
def test_an_exit_is_explained_in_words(code, words):
    assert explain_exit(code) == words


# --- the thread ------------------------------------------------------------------------------------------------------


@pytest.fixture
def watching(settings, files, database, launcher):
    """A supervisor whose thread runs; closed at the end."""
    supervisor = Supervisor(settings, files, database, launcher)
    supervisor.open()
    yield supervisor
    supervisor.close()


def test_the_thread_starts_a_job_when_it_is_woken_and_leaves_it_running_when_closed(database, launcher, watching):
    [job_id] = queue(database)
    watching.wake()
    wait_for("the job's start", lambda: launcher.jobs == [job_id])
    watching.close()
    assert not watching.is_alive
    assert (launcher.stopped, job_of(database, job_id).state) == ([], "running")


def test_a_round_that_fails_is_tried_again(database, launcher, watching):
    rounds = []

    def fails_twice():
        rounds.append(1)
        if len(rounds) <= 2:
            raise OperationalError("SELECT", {}, Exception("database is locked"))

    watching.tick = fails_twice
    wait_for("a third round", lambda: len(rounds) >= 3)
    assert watching.is_alive


@pytest.mark.filterwarnings("default::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_cannot_be_killed_does_not_end_the_watch(settings, files, database, launcher, clock):
    """A process in an uninterruptible wait (a hung disk or GPU) outlives its kill for a while: psutil raises."""
    queue(database)
    launcher.stop_fails = psutil.TimeoutExpired(10, 4711)
    supervisor = Supervisor(settings, files, database, launcher, clock)
    supervisor.tick()
    silence(supervisor, clock)
    supervisor.open()
    wait_for("an attempt to stop it", lambda: launcher.stops)
    try:
        wait_for("a second attempt to stop it", lambda: launcher.stops >= 2, seconds=3)
        assert supervisor.is_alive
    finally:
        supervisor.close()


def test_a_worker_of_an_earlier_server_whose_process_id_is_in_use_again_counts_as_dead(database, files, settings):

    [job_id] = queue(database)
    with database.writing() as session:
        attempt = attempt_service.claim_next(session, 1)
        me = ProcessMark.of_self()
        attempt_service.record_process(session, attempt.id, replace(me, started=me.started - 100))
    with database.reading() as session:
        mark = attempt_service.mark_of(train_service.attempts(session, job_id)[0])
    assert not LocalLauncher(files).is_alive(mark)
