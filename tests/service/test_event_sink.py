from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sqlalchemy import event, select

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.training import split_findings
from octa_backend.service import attempt_service, train_service
from octa_backend.service.event_sink import MAX_PENDING_STEPS, EventSink
from octa_backend.service.launcher import WorkerOrder
from octa_backend.storage.tables import EpochReport, GradientNorm, Job, JobFinding
from octa_backend.training.checkpoint import Best
from octa_backend.training.events import FindingNoticed, RunTreated
from tests.fakes import a_job, a_step, an_epoch


@pytest.fixture
def order(settings, database):
    with database.writing() as session:
        a_job(session)
        attempt = attempt_service.claim_next(session, 1)
    return WorkerOrder.of(settings, attempt.job_id, attempt.id)


@pytest.fixture
def sink(database, order):
    return EventSink(database, order, epochs=10)


@pytest.fixture
def commits(database):
    """Grows with every transaction that is committed."""
    found: list[int] = []
    event.listen(database.engine, "commit", lambda connection: found.append(1))
    return found


def rows(database, table):
    with database.reading() as session:
        return session.scalars(select(table).order_by(*table.__table__.primary_key)).all()


def job_of(database, order):
    with database.reading() as session:
        return session.get_one(Job, order.job_id)


def test_steps_are_written_with_their_epoch_in_one_transaction(database, sink, commits):
    for step in range(1, 51):
        sink(a_step(1, step, steps=50))
    assert (len(commits), rows(database, GradientNorm)) == (0, [])
    sink(an_epoch(1))
    assert len(commits) == 1
    assert [row.step for row in rows(database, GradientNorm)] == list(range(1, 51))
    assert [row.epoch for row in rows(database, EpochReport)] == [1]


def test_steps_of_a_long_epoch_are_written_in_batches(database, sink, commits):
    for step in range(1, 2 * MAX_PENDING_STEPS + 6):
        sink(a_step(1, step))
    assert len(commits) == 2
    assert len(rows(database, GradientNorm)) == 2 * MAX_PENDING_STEPS
    sink.write()
    assert len(rows(database, GradientNorm)) == 2 * MAX_PENDING_STEPS + 5


def test_a_step_is_stored_with_its_numbers(database, sink):
    sink(a_step(1, 1))
    sink.write()
    [row] = rows(database, GradientNorm)
    assert (row.loss, row.lr, row.encoder_conv1, row.decoder_output) == (0.4, 5e-4, 0.05, 0.05)


def test_an_epoch_told_twice_is_written_once(database, order, sink):
    sink(an_epoch(1, val_dice=0.6))
    version = job_of(database, order).version
    sink(an_epoch(1, val_dice=0.6))
    assert len(rows(database, EpochReport)) == 1
    assert job_of(database, order).version == version


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_is_kept_as_infinite(database, sink, broken):
    sink(replace(an_epoch(1), val_loss=broken))
    sink(an_epoch(2))
    assert [row.val_loss for row in rows(database, EpochReport)] == [math.inf, 0.41]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_signals_that_are_not_finite_are_left_out(database, sink, broken):
    sink(replace(an_epoch(1), signals={"weight_norms": {"encoder_conv1": broken}, "overflows": 0}))
    sink(replace(an_epoch(2), signals={"weight_norms": {"encoder_conv1": 1.5}, "noise_scale": None}))
    kept = {"weight_norms": {"encoder_conv1": 1.5}, "noise_scale": None}
    assert [row.signals for row in rows(database, EpochReport)] == [None, kept]


def test_the_job_knows_its_last_and_its_best_epoch(database, order, sink):
    for epoch, dice in ((1, 0.5), (2, 0.8), (3, 0.7), (4, 0.8)):
        sink(an_epoch(epoch, val_dice=dice))
    job = job_of(database, order)
    assert (job.epoch, job.best_epoch, job.best_val_dice) == (4, 2, 0.8)


def test_every_epoch_and_every_finding_changes_what_pollers_see(database, order, sink):
    versions = [job_of(database, order).version]
    sink(an_epoch(1))
    versions.append(job_of(database, order).version)
    sink.notice(split_findings(10, 1, shared=False)[0])
    versions.append(job_of(database, order).version)
    assert versions == sorted(set(versions))
    [row] = rows(database, JobFinding)
    assert row.finding["code"] == "few_validation_scans"


def test_what_the_trainer_notices_is_stored_as_a_finding(database, order, sink, caplog):
    evidence = {"scans": 8, "halved": 4, "device": "cuda:0"}
    with caplog.at_level("INFO"):
        sink(FindingNoticed(Finding("out_of_memory", Severity.WARNING, evidence, epoch=3)))
    [row] = rows(database, JobFinding)
    assert (row.finding["code"], row.finding["epoch"], row.finding["evidence"]) == ("out_of_memory", 3, evidence)
    assert "8 scans at once do not fit into the memory of cuda:0" in caplog.text


def test_steps_of_an_epoch_that_an_earlier_attempt_did_not_finish_are_forgotten(database, order, sink):
    for epoch in (1, 2, 3):
        sink(a_step(epoch, 1))
    sink.write()
    sink.forget_after(1, None)
    assert [row.epoch for row in rows(database, GradientNorm)] == [1]
    sink(a_step(2, 1))
    sink(an_epoch(2))
    assert [row.epoch for row in rows(database, GradientNorm)] == [1, 2]


def test_epochs_that_are_computed_anew_replace_those_that_were_told(database, order, sink):
    for epoch, dice in ((1, 0.5), (2, 0.8), (3, 0.9)):
        sink(an_epoch(epoch, val_dice=dice))
    sink.forget_after(1, Best(2, 0.8))
    job = job_of(database, order)
    assert (job.epoch, job.best_epoch, job.best_val_dice) == (1, 2, 0.8)
    assert [row.epoch for row in rows(database, EpochReport)] == [1]
    for epoch, dice in ((2, 0.6), (3, 0.85)):
        sink(an_epoch(epoch, val_dice=dice))
    job = job_of(database, order)
    assert (job.epoch, job.best_epoch, job.best_val_dice) == (3, 3, 0.85)
    assert [row.val_dice for row in rows(database, EpochReport)] == [0.5, 0.6, 0.85]


def test_steps_of_other_jobs_are_not_forgotten(database, settings, order, sink):
    with database.writing() as session:
        other = a_job(session).id
        session.add(
            GradientNorm(
                job_id=other, epoch=9, step=1, loss=1, lr=1, encoder_conv1=1, encoder_last=1, decoder_first=1,
                decoder_output=1,
            )
        )  # fmt: skip
    sink.forget_after(0, None)
    assert [row.job_id for row in rows(database, GradientNorm)] == [other]


def test_an_attempt_that_was_taken_away_writes_nothing_more(database, order, sink):
    sink(an_epoch(1))
    with database.writing() as session:
        attempt_service.crashed(session, order.attempt_id, "silent", 3, [])
    sink(a_step(2, 1))
    sink(an_epoch(2))
    assert [row.epoch for row in rows(database, EpochReport)] == [1]
    assert rows(database, GradientNorm) == []
    with database.reading() as session:
        assert train_service.get(session, order.job_id).epoch == 1


def test_steps_and_epochs_are_written_to_the_log_in_the_orders_language(database, order, caplog):
    sink = EventSink(database, order.model_copy(update={"language": "zh"}), epochs=10)
    plateau = {**dict.fromkeys(("variance", "improvement"), 0.0), "last_losses": [0.4] * 5, "verdict": "flat"}
    with caplog.at_level("INFO"):
        sink(a_step(11, 1))
        sink(replace(an_epoch(11), plateau={**plateau, "is_due": True, "is_plateau": True}))
    step, epoch, check = caplog.messages
    assert step.endswith("| Hint: 健康（各组均 > 1e-4）")
    assert epoch.startswith("Epoch [11/10] | Train Loss: 0.4000")
    assert check.startswith("[诊断] Loss平台期检查（第 11 轮）")


WENT_BACK = {"after": 2, "changes": "lr 0.001 → 0.0005", "number": 1, "most": 3}
TREATED = Finding("went_back", Severity.WARNING, WENT_BACK, epoch=2)


def test_a_treatment_drops_what_was_told_of_later_epochs_and_is_told_once(database, sink, order):
    for epoch in (1, 2, 3):
        sink(a_step(epoch, 1))
        sink(an_epoch(epoch))
    sink(a_step(4, 1))
    plan = {"config": {"epochs": 12, "lr": 0.01}, "treatments": [{"changes": {"lr": [0.001, 0.01]}}]}
    for _ in range(2):  # again by an attempt that goes on
        sink(RunTreated(2, plan, TREATED))
    sink.write()
    assert [row.epoch for row in rows(database, EpochReport)] == [1, 2]
    assert [row.epoch for row in rows(database, GradientNorm)] == [1, 2]
    assert [row.finding["code"] for row in rows(database, JobFinding)] == ["went_back"]
    job = job_of(database, order)
    assert (job.epoch, job.plan, job.planned("lr")) == (2, plan, 0.01)


def test_a_treatment_of_an_attempt_that_was_taken_away_changes_nothing(database, sink, order):
    sink(an_epoch(1))
    with database.writing() as session:
        attempt_service.crashed(session, order.attempt_id, "died", 3, [])
    sink(RunTreated(0, {"config": {"epochs": 12}}, TREATED))
    assert [row.epoch for row in rows(database, EpochReport)] == [1]
    assert rows(database, JobFinding) == []


def test_an_epoch_told_twice_is_logged_once(sink, caplog):
    with caplog.at_level("INFO"):
        sink(an_epoch(1))
        sink(an_epoch(1))
    assert len(caplog.messages) == 1
