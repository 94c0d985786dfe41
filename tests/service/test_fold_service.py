"""The life of a cross-validation, in rows alone."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from octa_backend.controller.job_schemas import JobOut
from octa_backend.errors import IllegalJobState, JobNotFound, ModelInUse
from octa_backend.service import attempt_service, fold_service, model_service, train_service
from octa_backend.storage.tables import Job, JobState
from octa_backend.training.config import TrainConfig
from tests.fakes import FakeLauncher, HandSupervisor, a_dataset, a_job, add_epochs


@pytest.fixture
def launcher():
    return FakeLauncher()


@pytest.fixture
def supervisor(settings, files, database, launcher):
    return HandSupervisor(settings, files, database, launcher)


@pytest.fixture
def parent(database) -> str:
    """A cross-validation of three folds, four epochs each."""
    with database.writing() as session:
        return train_service.start(session, a_dataset(session).id, TrainConfig(epochs=4, folds=3)).id


def job(database, job_id) -> Job:
    with database.reading() as session:
        return session.get_one(Job, job_id)


def folds(database, parent) -> list[Job]:
    with database.reading() as session:
        return list(fold_service.folds_of(session, parent))


def states(database, parent) -> list[str]:
    return [str(fold.state) for fold in folds(database, parent)]


def end(database, job_id, state=JobState.SUCCEEDED, epochs=0, error=None):
    """The worker of a job ends it."""
    with database.writing() as session:
        row = session.get_one(Job, job_id)
        if epochs:
            add_epochs(session, row, epochs)
        attempt = train_service.attempts(session, job_id)[-1]
        ended = attempt_service.end(session, attempt.id, "ended")
        ended.error = error
        ended.move_to(state)


def all_folds_succeed(database, supervisor, launcher, parent):
    for fold in folds(database, parent):
        supervisor.tick()
        assert launcher.jobs[-1] == fold.id
        end(database, fold.id, epochs=4)


def act(database, action, job_id, *more):
    with database.writing() as session:
        return getattr(train_service, action)(session, job_id, *more)


def test_a_cross_validation_queues_a_child_for_each_fold(database, parent):
    assert (job(database, parent).state, job(database, parent).fold) == ("queued", 0)
    found = folds(database, parent)
    assert [(fold.fold, fold.state, fold.parent_job_id) for fold in found] == [(n, "queued", parent) for n in (1, 2, 3)]
    assert all(fold.config == job(database, parent).config for fold in found)


def test_folds_run_in_order_one_at_a_time_and_the_parent_takes_no_place(database, supervisor, launcher, parent):
    with database.writing() as session:
        later = a_job(session).id
    for fold in folds(database, parent):
        supervisor.tick()
        supervisor.tick()
        assert launcher.jobs[-1] == fold.id
        end(database, fold.id, epochs=4)
    supervisor.tick()
    assert launcher.jobs[3:] == [parent]
    end(database, parent)
    supervisor.tick()
    assert launcher.jobs[4:] == [later]
    assert job(database, parent).state == "succeeded"


def test_as_many_folds_run_at_once_as_there_are_places(settings, files, database, launcher, parent):
    wide = HandSupervisor(settings.model_copy(update={"jobs_per_device": 2}), files, database, launcher)
    wide.tick()
    assert launcher.jobs == [fold.id for fold in folds(database, parent)[:2]]


def test_the_parent_runs_while_its_folds_do_and_counts_their_epochs(database, supervisor, launcher, parent):
    supervisor.tick()
    assert (job(database, parent).state, job(database, parent).attempt) == ("running", 0)
    assert job(database, parent).started_at is not None
    first, *_ = folds(database, parent)
    version = job(database, parent).version
    with database.writing() as session:
        add_epochs(session, session.get_one(Job, first.id), 3)
    supervisor.tick()
    assert job(database, parent).epoch == 3
    assert job(database, parent).version > version
    end(database, first.id)  # early, after three of four epochs
    supervisor.tick()
    assert job(database, parent).epoch == 4


def test_the_place_of_a_cross_validation_in_the_queue_is_that_of_its_first_fold(database, parent):
    with database.writing() as session:
        later = a_job(session)
        positions = [train_service.queue_position(session, row) for row in (session.get_one(Job, parent), later)]
        places = [train_service.queue_position(session, fold) for fold in fold_service.folds_of(session, parent)]
    assert (positions, places) == ([1, 4], [1, 2, 3])


def test_a_fold_whose_worker_dies_is_tried_again(database, supervisor, launcher, parent):
    supervisor.tick()
    first = folds(database, parent)[0]
    launcher.die(first.id, -9)
    supervisor.tick()
    assert launcher.jobs == [first.id, first.id]
    assert job(database, parent).state == "running"


def test_a_fold_that_fails_for_good_stops_the_others_and_fails_the_parent(settings, files, database, launcher, parent):
    wide = HandSupervisor(settings.model_copy(update={"jobs_per_device": 2}), files, database, launcher)
    wide.tick()
    first, second, _ = folds(database, parent)
    end(database, second.id, JobState.FAILED, error="the loss is NaN")
    wide.tick()
    assert states(database, parent) == ["running", "failed", "cancelled"]
    assert job(database, first.id).cancel_requested
    assert job(database, parent).state == "running"
    end(database, first.id, JobState.CANCELLED)
    wide.tick()
    assert job(database, parent).state == "failed"
    assert job(database, parent).error == f"fold 2 of 3 failed (job {second.id}): the loss is NaN"
    assert len(launcher.jobs) == 2


def test_cancelling_a_waiting_cross_validation_cancels_all_at_once(database, parent):
    act(database, "request_cancel", parent)
    assert job(database, parent).state == "cancelled"
    assert states(database, parent) == ["cancelled"] * 3


def test_cancelling_a_running_cross_validation_waits_for_the_running_fold(database, supervisor, launcher, parent):
    supervisor.tick()
    act(database, "request_cancel", parent)
    assert states(database, parent) == ["running", "cancelled", "cancelled"]
    supervisor.tick()
    assert job(database, parent).state == "running"
    end(database, folds(database, parent)[0].id, JobState.CANCELLED)
    supervisor.tick()
    assert job(database, parent).state == "cancelled"
    assert len(launcher.jobs) == 1


def test_a_fold_whose_worker_dies_after_the_cancel_is_tried_again_to_publish(database, supervisor, launcher, parent):
    supervisor.tick()
    first = folds(database, parent)[0]
    with database.writing() as session:
        add_epochs(session, session.get_one(Job, first.id), 2)
    act(database, "request_cancel", parent)
    launcher.die(first.id, -9)
    supervisor.tick()
    assert launcher.jobs == [first.id, first.id]
    end(database, first.id, JobState.CANCELLED)
    supervisor.tick()
    assert job(database, parent).state == "cancelled"


def test_a_cross_validation_is_not_cancelled_under_the_process_that_concludes_it(
    database, supervisor, launcher, parent
):
    all_folds_succeed(database, supervisor, launcher, parent)
    supervisor.tick()
    act(database, "request_cancel", parent)
    supervisor.tick()
    assert job(database, parent).state == "running"
    end(database, parent, JobState.CANCELLED)
    assert job(database, parent).state == "cancelled"


def test_a_conclusion_whose_process_dies_is_tried_again_until_too_many_have(database, supervisor, launcher, parent):
    all_folds_succeed(database, supervisor, launcher, parent)
    for crash in (1, 2, 3):
        supervisor.tick()
        assert launcher.jobs[-1] == parent
        assert (job(database, parent).state, job(database, parent).attempt) == ("running", crash)
        launcher.die(parent, -9)
    supervisor.tick()
    assert job(database, parent).state == "failed"
    assert launcher.jobs.count(parent) == 3


def test_a_new_server_goes_on_where_the_old_one_was_killed(settings, files, database, launcher, supervisor, parent):
    supervisor.tick()
    first, second, third = folds(database, parent)
    end(database, first.id, epochs=4)  # while no server looks
    later = HandSupervisor(settings, files, database, launcher)
    for fold in (second, third):
        later.tick()
        assert launcher.jobs[-1] == fold.id
        end(database, fold.id, epochs=4)
    HandSupervisor(settings, files, database, launcher).tick()
    assert launcher.jobs[-1] == parent


@pytest.mark.parametrize("action", ["request_cancel", "resume", "remove"])
def test_folds_are_cancelled_resumed_and_deleted_with_their_parent_alone(database, parent, action):
    if action == "resume":
        act(database, "request_cancel", parent)
    more = ({},) if action == "resume" else ()
    with pytest.raises(IllegalJobState, match=f"is fold 2 of cross-validation {parent}; "):
        act(database, action, folds(database, parent)[1].id, *more)


def test_a_failed_cross_validation_is_resumed_with_the_folds_that_are_not_done(database, supervisor, launcher, parent):
    supervisor.tick()
    first, second, third = folds(database, parent)
    end(database, first.id, epochs=4)
    publish(database, first.id)
    supervisor.tick()
    end(database, second.id, JobState.FAILED, error="no memory")
    supervisor.tick()
    assert job(database, parent).state == "failed"
    act(database, "resume", parent, {"lr": 0.01})
    assert states(database, parent) == ["succeeded", "queued", "queued"]
    assert (job(database, parent).state, job(database, parent).error) == ("queued", None)
    assert [fold.config["lr"] for fold in folds(database, parent)] == [1e-3, 0.01, 0.01]
    supervisor.tick()
    assert launcher.jobs[-1] == second.id
    end(database, second.id, epochs=4)
    supervisor.tick()
    assert (job(database, parent).state, launcher.jobs[-1]) == ("running", third.id)


def test_a_cross_validation_whose_conclusion_failed_is_only_concluded_again(database, supervisor, launcher, parent):
    all_folds_succeed(database, supervisor, launcher, parent)
    for fold in folds(database, parent):
        publish(database, fold.id)
    supervisor.tick()
    end(database, parent, JobState.FAILED, error="the disk is full")
    act(database, "resume", parent, {})
    assert states(database, parent) == ["succeeded"] * 3
    supervisor.tick()
    assert (job(database, parent).state, launcher.jobs[-1]) == ("running", parent)


def publish(database, job_id) -> str:
    with database.writing() as session:
        row = session.get_one(Job, job_id)
        row.model_id = model_service.register(session, f"{job_id}-e4", row, {}).id
        return row.model_id


def test_a_folds_model_stays_until_its_cross_validation_is_over(database, supervisor, launcher, parent):
    supervisor.tick()
    first, second, _ = folds(database, parent)
    end(database, first.id, epochs=4)
    model_id = publish(database, first.id)
    words = f"cross-validation {parent} is running and needs {model_id}, .*; cancel it first"
    with pytest.raises(ModelInUse, match=words), database.writing() as session:
        model_service.forget(session, model_id)
    supervisor.tick()
    end(database, second.id, JobState.FAILED, error="no memory")
    supervisor.tick()
    with database.writing() as session:
        model_service.forget(session, model_id)
    act(database, "resume", parent, {})
    assert states(database, parent) == ["queued"] * 3


def test_a_model_of_another_job_may_go_while_a_cross_validation_runs(database, supervisor, parent):
    supervisor.tick()
    with database.writing() as session:
        other = a_job(session, parent_job_id=parent).id  # begun by a remedy of it
    model_id = publish(database, other)
    with database.writing() as session:
        model_service.forget(session, model_id)
    assert job(database, other).model_id is None


def test_a_finished_cross_validation_is_resumed_with_more_epochs_only(database, supervisor, launcher, parent):
    all_folds_succeed(database, supervisor, launcher, parent)
    supervisor.tick()
    end(database, parent)
    for epochs in (3, 4):
        with pytest.raises(IllegalJobState, match=f"up to 4 of {epochs} epochs; resume it with more"):
            act(database, "resume", parent, {"epochs": epochs})
    act(database, "resume", parent, {"epochs": 6})
    assert states(database, parent) == ["queued"] * 3
    with database.reading() as session:
        line = select(Job.fold).where(Job.state == JobState.QUEUED, Job.fold > 0).order_by(Job.queued_at)
        assert session.scalars(line).all() == [1, 2, 3]


def plan(database, job_id, epochs=4, treatments=()):
    """A job of four epochs is planned, and perhaps treated."""
    with database.writing() as session:
        row = session.get_one(Job, job_id)
        config = {**row.config, "model": "unet", "precision": "fp32", "epochs": epochs}
        row.plan = {"config": config, "device": "cpu", "treatments": list(treatments)}


def treat(database, job_id, epochs):
    """The doctor's remedy gives a fold more epochs than it had."""
    plan(database, job_id, epochs, [{"changes": {"epochs": [4, epochs]}}])


def test_folds_that_were_treated_go_on_to_their_own_last_epoch(database, supervisor, launcher, parent):
    supervisor.tick()
    first, second, _ = folds(database, parent)
    treat(database, first.id, 6)
    end(database, first.id, epochs=6)
    publish(database, first.id)
    supervisor.tick()
    treat(database, second.id, 7)
    end(database, second.id, JobState.FAILED, epochs=6, error="no memory")
    supervisor.tick()
    with pytest.raises(IllegalJobState, match="up to 6 of 5 epochs; resume it with more"):
        act(database, "resume", parent, {"epochs": 5})
    act(database, "resume", parent, {"lr": 0.01})
    assert states(database, parent) == ["succeeded", "queued", "queued"]


def test_treated_folds_take_the_parent_no_further_than_its_end(database, supervisor, parent):
    plan(database, parent)
    for fold in folds(database, parent):
        supervisor.tick()
        treat(database, fold.id, 10)
        if fold.fold < 3:
            end(database, fold.id, epochs=10)
    with database.writing() as session:
        add_epochs(session, session.get_one(Job, fold.id), 9)
    supervisor.tick()
    shown = JobOut.of(job(database, parent))
    assert (shown.epoch, shown.epochs, shown.percent) == (11, 12, 91.67)


def test_a_deleted_cross_validation_takes_its_folds_along(database, supervisor, launcher, parent):
    ids = [fold.id for fold in folds(database, parent)]
    supervisor.tick()
    supervisor.tick()
    with pytest.raises(IllegalJobState, match="is running; cancel it first"):
        act(database, "remove", parent)
    act(database, "request_cancel", parent)
    end(database, ids[0], JobState.CANCELLED)
    supervisor.tick()
    assert act(database, "remove", parent) == [parent, *ids]
    with pytest.raises(JobNotFound), database.reading() as session:
        train_service.get(session, ids[0])


def test_a_single_training_has_no_folds(database):
    with database.writing() as session:
        row = train_service.start(session, a_dataset(session).id, TrainConfig())
        assert row.fold is None
        assert fold_service.folds_of(session, row.id) == []
