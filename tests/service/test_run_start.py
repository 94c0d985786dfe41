from __future__ import annotations

import json
import logging
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import select

from octa_backend.data.synthetic import write_zip
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.service import experiment, run_doctor, train_service
from octa_backend.service.epoch_history import stored_history
from octa_backend.service.local_dataset import open_dataset
from octa_backend.service.run_start import START_FILE, read_start, start_of
from octa_backend.service.start_service import StartOptions
from octa_backend.settings import Settings
from octa_backend.storage.tables import Job, JobState
from octa_backend.training import start_checks as checking
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import EpochFinished, FindingNoticed, StartChecked
from tests.service.test_training_run import Trained
from tests.tiny import SLOW_CPU, one_thread, tiny_networks
from tests.training.runs import numbers

HOPELESS = StartChecks(lr=1e-3, initial_loss=0.7, expected_initial_loss=0.7, overfit_dice=0.1, overfit_steps=100)
"""Of a network that cannot learn a batch."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    monkeypatch.setattr(checking, "OVERFIT_STEPS", 3)
    with tiny_networks(), one_thread():
        yield


@pytest.fixture
def trained(settings, database, files):
    run = Trained(settings, database, files)
    return lambda **options: run(**{"start_checks": True, **options})


@pytest.fixture
def tried(monkeypatch):
    """How often something was tried; what came out each time is `HOPELESS` at the run's rate."""
    times = []

    def check(network, data, plan, should_stop):
        times.append(plan.config.lr)
        return StartChecks(**{**asdict(HOPELESS), "lr": plan.config.lr})

    monkeypatch.setattr(checking, "start_checks", check)
    return times


def told(database, job):
    with database.reading() as session:
        return [row.finding for row in train_service.findings(session, job.id)]


# --- with a server --------------------------------------------------------------------------------------------------


def test_what_was_tried_is_kept_logged_and_judged(trained, database, caplog):
    caplog.set_level(logging.INFO)
    job = trained(seed=3)
    found = start_of(job.start_checks)
    assert (found.lr, found.overfit_steps) == (1e-3, 3)
    assert found.initial_loss == pytest.approx(found.expected_initial_loss, rel=0.5)
    lines = [record.message for record in caplog.records if record.message.startswith("start check: ")]
    assert (
        lines[0] == f"start check: initial loss {found.initial_loss:.4f} (expected {found.expected_initial_loss:.4f})"
    )
    assert len(lines) == 4
    with database.reading() as session:
        examined = run_doctor.examine_job(session, job.id)
    assert examined.history.start == found


def test_a_run_is_the_same_to_the_last_digit_with_and_without(trained, database, files):
    jobs = [trained(epochs=2, start_checks=wanted) for wanted in (True, False)]
    assert [job.start_checks is not None for job in jobs] == [True, False]
    reports = [epochs_of(database, job) for job in jobs]
    assert len(reports[0]) == 2
    assert reports[0] == reports[1]
    one, other = (load_file(Checkpoints(files.checkpoints(job.id)).best_weights()) for job in jobs)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def epochs_of(database, job):
    """What each epoch said, without what the clock and the machine say."""
    with database.reading() as session:
        return [numbers(EpochFinished(**report)) for report in stored_history(session, job.id)]


def test_a_set_up_that_cannot_learn_is_told_before_the_first_epoch(trained, database, tried):
    job = trained()
    [finding] = [one for one in told(database, job) if one["code"] == "one_batch_not_learnt"]
    assert (finding["severity"], finding["epoch"]) == ("error", None)


def test_a_run_that_is_to_try_nothing_tries_nothing(trained, tried):
    assert trained(start_checks=False).start_checks is None
    assert tried == []


def test_a_run_that_goes_on_tries_nothing(trained, database, settings, files, tried):
    job = trained()
    with database.writing() as session:
        train_service.resume(session, job.id, {"epochs": 2})
    again = Trained(settings, database, files).attempt(lambda: False)
    assert (again.state, again.epoch, tried) == (JobState.SUCCEEDED, 2, [1e-3])
    assert again.start_checks == job.start_checks


def stopped_in_first_epoch(trained, database):
    """A job that was stopped right after the trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octa_backend.service.training_run.fit_with_board", _dies)
        with pytest.raises(RuntimeError, match="the power failed"):
            trained()
    with database.reading() as session:
        return session.scalars(select(Job)).one()


def _dies(*_, **__):
    raise RuntimeError("the power failed")


@pytest.mark.parametrize(("lr", "expected"), [(1e-3, [1e-3]), (0.01, [1e-3, 0.01])])
def test_an_attempt_that_begins_again_tries_again_at_another_rate_only(
    trained, database, settings, files, tried, lr, expected
):
    job = stopped_in_first_epoch(trained, database)
    assert job.start_checks["lr"] == 1e-3
    with database.writing() as session:
        row = session.get_one(Job, job.id)
        row.config = {**row.config, "lr": lr}
    again = Trained(settings, database, files).again()
    assert (again.state, tried) == (JobState.SUCCEEDED, expected)
    assert again.start_checks["lr"] == lr
    assert [one["code"] for one in told(database, job)].count("one_batch_not_learnt") == 1


def test_trials_that_are_broken_off_are_not_kept(trained, database):
    answers = iter([False] * 3)
    job = trained(stop=lambda: next(answers, True))
    assert (job.state, job.start_checks) == (JobState.CANCELLED, None)


# --- without one ----------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path):
    """Train in a folder; gives all that was told."""
    write_zip(tmp_path / "scans.zip", 5, size=32, seed=1)

    def train(**options):
        config = TrainConfig(**{"model": "small_unet", "epochs": 1, "augmentation": "none", **options})
        opened = open_dataset(tmp_path / "scans.zip", tmp_path / "out", config, Settings(device="cpu"), StartOptions())
        events = []
        opened.training().train(events.append, lambda: False)
        return events

    return train


def test_a_training_without_a_server_keeps_them_beside_its_plan(local, tmp_path):
    events = local()
    [checks] = [event.checks for event in events if isinstance(event, StartChecked)]
    assert read_start(tmp_path / "out") == checks
    assert checks.initial_loss > 0
    assert json.loads((tmp_path / "out" / START_FILE).read_text())["overfit_steps"] == 3


def test_one_that_goes_on_knows_them_and_tries_nothing(local, tried, tmp_path):
    first, again = local(), local(epochs=2)
    assert tried == [1e-3]
    kinds = [type(event) for event in first]
    findings = [event.finding for event in first if isinstance(event, FindingNoticed)]
    assert "one_batch_not_learnt" in [finding.code for finding in findings if finding.epoch is None]
    assert kinds.index(FindingNoticed) < kinds.index(EpochFinished)
    assert not [event for event in again if isinstance(event, StartChecked)]
    assert read_start(tmp_path / "out").overfit_dice == 0.1


def test_one_that_is_begun_anew_with_nothing_to_try_forgets_what_was_there(local, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / START_FILE).write_text(json.dumps(asdict(HOPELESS)), "utf-8")
    events = local(start_checks=False)
    codes = [event.finding.code for event in events if isinstance(event, FindingNoticed)]
    assert "one_batch_not_learnt" not in codes
    assert not np.isnan([event.val_dice for event in events if isinstance(event, EpochFinished)]).any()


def test_a_file_of_another_version_is_read_as_far_as_it_is_known():
    assert start_of({"lr": 0.1, "something_new": 1}) == StartChecks(lr=0.1)
    assert start_of(None) == StartChecks()
