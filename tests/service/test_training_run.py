from __future__ import annotations

import json
import math
from functools import partial

import pytest
import torch
from sqlalchemy import select

from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.errors import ModelNotFound
from octa_backend.service import (
    attempt_service,
    evaluation_run,
    experiment,
    model_service,
    run_doctor,
    train_service,
    training_run,
)
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.report_service import REPORT_HTML, read_report
from octa_backend.service.training_run import run_training
from octa_backend.storage.tables import Dataset, EpochReport, Job, JobFinding, JobState, Model
from octa_backend.training import evaluation
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.log_lines import is_step_line
from octa_backend.training.scan_metrics import measure_scan
from tests.fakes import a_dataset, a_job
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs, tiny_networks, write_store

DATASET = "d" * 20


class Trained:
    """Trains a tiny network in this process; gives the job as it ended."""

    def __init__(self, settings, database, files):
        self.settings, self.database, self.files = settings, database, files

    def __call__(self, splits=(None,) * 4, stop=lambda: False, **options):
        config = TrainConfig(**{"model": "small_unet", "batch_size": 2, "epochs": 1, "start_checks": False, **options})
        with self.database.writing() as session:
            if session.get(Dataset, DATASET) is None:
                a_dataset(session, DATASET, scans=4)
                write_store(self.files.dataset(DATASET), synthetic_pairs(4), splits=splits)
            a_job(session).config = config.model_dump(mode="json")
        return self.attempt(stop)

    def again(self):
        """The job's attempt died; the next one."""
        with self.database.writing() as session:
            [attempt] = attempt_service.open_attempts(session)
            attempt_service.crashed(session, attempt.id, "died", 3, [])
        return self.attempt(lambda: False)

    def attempt(self, stop):
        with self.database.writing() as session:
            attempt = attempt_service.claim_next(session, 1)
        order = WorkerOrder.of(self.settings, attempt.job_id, attempt.id)
        run_training(order, self.files, self.database, stop)
        with self.database.reading() as session:
            return session.get_one(Job, order.job_id)


@pytest.fixture
def trained(settings, database, files, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    with tiny_networks(), one_thread():
        yield Trained(settings, database, files)


def test_an_attempt_leaves_a_model_and_a_picture_of_the_augmentation(trained, files):
    job = trained()
    assert (job.state, job.epoch) == (JobState.SUCCEEDED, 1)
    assert (files.model(job.model_id) / "card.json").exists()
    assert (files.job(job.id) / "augmentation.png").exists()


def test_an_attempt_without_augmentation_draws_nothing(trained, files):
    assert not (files.job(trained(augmentation="none").id) / "augmentation.png").exists()


def test_components_of_any_loss_are_written_down(trained):
    assert trained(loss="focal_dice").state == JobState.SUCCEEDED


def test_the_report_is_on_the_test_split_and_the_cards_scores_are_its(trained, files):
    job = trained(("train", "train", "val", "test"), epochs=2)
    report = read_report(files.job(job.id))
    assert (report["kind"], report["subject"]["split"], report["subject"]["model"]) == (
        "evaluation",
        "test",
        job.model_id,
    )
    assert [scan["name"] for scan in report["scans"]] == ["s3"]
    assert report["notes"] == []
    assert report["tuned"]["scans"] == 1
    assert job.test["dice"] == report["summary"]["dice"]["mean"]
    assert [epoch["epoch"] for epoch in report["history"]] == [1, 2]
    took = report["training"]
    assert (took["epochs"], took["best_epoch"]) == (2, job.best_epoch)
    assert took["seconds_per_epoch"] > took["seconds_per_batch"] > 0
    assert took["scans_per_second"] > 0
    assert took["peak_memory_mb"] > 0
    assert [one["field"] for one in took["reasons"]] == [one["field"] for one in job.plan["reasons"]]
    page = (files.job(job.id) / REPORT_HTML).read_text("utf-8")
    assert page.count("<svg") == 4
    assert page.count("<figure>") == 1


def test_without_a_test_split_the_validation_scans_are_reported_and_it_says_so(trained, files):
    job = trained()
    report = read_report(files.job(job.id))
    assert report["subject"]["split"] == "val"
    assert report["notes"] == ["no_test_split", "epoch_chosen_on_these_scans"]
    assert job.test is None
    assert report["summary"]["dice"]["mean"] == pytest.approx(job.best_val_dice)


def test_a_validation_whose_loss_is_not_a_number_ends_no_job(trained, database, files, monkeypatch):
    plain, nan = evaluation.compute_loss, torch.tensor(math.nan)
    monkeypatch.setattr(evaluation, "compute_loss", lambda *given: plain(*given)._replace(total=nan))
    job = trained(epochs=4)
    assert (job.state, job.error, job.epoch) == (JobState.SUCCEEDED, None, 4)
    with database.reading() as session:
        assert {row.val_loss for row in session.scalars(select(EpochReport))} == {math.inf}
        assert job.id in run_doctor.examine_job(session, job.id).letter("en")
    assert "nan" not in (files.job(job.id) / REPORT_HTML).read_text("utf-8")


def test_the_doctor_sees_every_epoch_and_judges_the_job_by_its_rows(trained, database):
    job = trained(epochs=3)
    with database.reading() as session:
        examined = run_doctor.examine_job(session, job.id)
    assert [record.epoch for record in examined.history.epochs] == [1, 2, 3]
    assert all(set(record.signals.update_ratios) == set(GRADIENT_GROUPS) for record in examined.history.epochs)
    assert examined.history.epochs_planned == 3
    assert job.id in examined.letter("en")
    with database.reading() as session:
        rows = session.scalars(select(EpochReport).order_by(EpochReport.epoch)).all()
    assert [len(row.plateau["last_losses"]) for row in rows] == [1, 2, 3]


def test_the_log_tells_of_steps_and_plateaus_in_the_language_of_the_settings(trained, caplog):
    trained.settings = trained.settings.model_copy(update={"language": "zh"})
    with caplog.at_level("INFO"):
        job = trained(epochs=11, augmentation="none", tensorboard=False)
    last = next(n for n, line in enumerate(caplog.messages) if line.startswith("Epoch [11/11] | Train Loss: "))
    assert caplog.messages[last - 1].startswith("Epoch [11] Step 2 | encoder_conv1: 0.")
    assert caplog.messages[last + 1].startswith("[诊断] Loss平台期检查（第 11 轮）\n  最近 5 轮损失：")
    assert sum(is_step_line(line) for line in caplog.messages) == 2 * job.epoch


def test_a_run_that_is_stopped_leaves_no_report(trained, files):
    answers = iter([False, False])
    job = trained(stop=lambda: next(answers, True))
    assert job.state == JobState.CANCELLED
    assert read_report(files.job(job.id)) is None


def test_a_run_that_is_stopped_while_it_is_scored_is_not_at_its_end(trained, files, database, monkeypatch):
    scoring = []
    monkeypatch.setattr(evaluation_run, "measure_scan", partial(_noting, scoring))
    job = trained(stop=lambda: bool(scoring))
    assert (job.state, job.epoch) == (JobState.CANCELLED, 1)
    assert read_report(files.job(job.id)) is None
    with database.writing() as session:
        train_service.resume(session, job.id, {})
    assert trained.attempt(lambda: False).state == JobState.SUCCEEDED
    assert read_report(files.job(job.id)) is not None


def test_a_run_that_was_stopped_once_ends_with_a_whole_card(trained, files, database, monkeypatch):
    scoring = []
    monkeypatch.setattr(evaluation_run, "measure_scan", partial(_noting, scoring))
    first = trained(("train", "train", "val", "test"), stop=lambda: bool(scoring))
    before = (files.model(first.model_id) / "weights.safetensors").read_bytes()
    with database.writing() as session:
        train_service.resume(session, first.id, {})
    second = trained.attempt(lambda: False)
    assert (first.test, second.model_id) == (None, first.model_id)
    card = json.loads((files.model(second.model_id) / "card.json").read_text("utf-8"))
    with database.reading() as session:
        row = session.get_one(Model, second.model_id).card
    assert card["test"] == row["test"] == second.test
    assert card["tuned_threshold"]["scans"] == row["tuned_threshold"]["scans"] == 1
    assert (files.model(second.model_id) / "weights.safetensors").read_bytes() == before


def test_a_score_belongs_to_the_model_that_was_scored(trained, database, monkeypatch):
    def better_epoch_is_told():
        with database.reading() as session:
            return session.scalars(select(Job.best_epoch)).one() > first.epoch

    first = trained(("train", "train", "val", "test"), tensorboard=False)
    with database.writing() as session:
        train_service.resume(session, first.id, {"epochs": 1000, "lr": 0.02})
    other = trained.attempt(better_epoch_is_told)
    assert (other.state, other.model_id == first.model_id) == (JobState.CANCELLED, False)
    assert (first.test is None, other.test) == (False, None)


def test_the_test_split_is_looked_at_once_whatever_happens_after_the_report(trained, files, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluation_run, "measure_scan", partial(_noting, seen))
    broken = pytest.MonkeyPatch()
    broken.setattr(training_run, "make_card", _dies)
    with pytest.raises(RuntimeError, match="the power failed"):
        trained(("train", "train", "val", "test"))
    broken.undo()
    job = trained.again()
    assert job.state == JobState.SUCCEEDED
    assert len(seen) == 1
    assert job.test["dice"] == read_report(files.job(job.id))["summary"]["dice"]["mean"]


def _noting(seen, *arguments):
    seen.append(1)
    return measure_scan(*arguments)


def _dies(*_):
    raise RuntimeError("the power failed")


def test_an_attempt_writes_tensorboard_files_into_the_folder_of_its_job(trained, files):
    folder = files.tensorboard(trained().id)
    assert sorted(path.name for path in folder.iterdir()) == ["epochs", "scans", "steps"]
    assert list(folder.glob("steps/events.out.tfevents.*"))


def test_an_attempt_that_is_to_write_no_tensorboard_files_writes_none(trained, files):
    assert not files.tensorboard(trained(tensorboard=False).id).exists()


def test_an_attempt_begins_with_the_model_that_is_named_and_tells_what_was_taken(trained, database):
    first = trained()
    second = trained(pretrained=first.model_id)
    with database.reading() as session:
        rows = session.scalars(select(JobFinding).where(JobFinding.job_id == second.id)).all()
    assert "pretrained_taken" in [row.finding["code"] for row in rows]


def test_a_job_that_goes_on_has_the_weights_that_it_began_with_while_they_are_there(trained, database, monkeypatch):
    begun, whole = [], training_run.fit_with_board

    def noting(*given, initial, **more):
        begun.append(initial)
        return whole(*given, initial=initial, **more)

    first = trained(tensorboard=False)
    monkeypatch.setattr(training_run, "fit_with_board", noting)
    second = trained(pretrained=first.model_id, tensorboard=False)
    for epochs in (2, 3):
        with database.writing() as session:
            if epochs == 3:
                model_service.forget(session, first.model_id)
            train_service.resume(session, second.id, {"epochs": epochs})
        assert trained.attempt(lambda: False).state == JobState.SUCCEEDED
    assert [one and one.source for one in begun] == [first.model_id, first.model_id, None]


def test_a_model_that_is_gone_ends_an_attempt_in_words(trained):
    with pytest.raises(ModelNotFound, match="no model has the id 'gone'"):
        trained(pretrained="gone")


def test_epochs_computed_anew_with_another_rate_are_told_and_published_as_they_are_now(trained, database, files):
    def third_epoch_is_told():
        with database.reading() as session:
            return session.get(EpochReport, (session.scalars(select(Job.id)).one(), 3)) is not None

    first = trained(epochs=4, lr=0.0003, save_freq=2, stop=third_epoch_is_told)
    with database.writing() as session:
        old = {row.epoch: row.lr for row in session.scalars(select(EpochReport))}
        train_service.resume(session, first.id, {"epochs": 3, "lr": 0.02})
    second = trained.attempt(lambda: False)
    with database.reading() as session:
        new = {row.epoch: row.lr for row in session.scalars(select(EpochReport))}
    index = Checkpoints(files.checkpoints(first.id)).index
    assert (first.state, sorted(old), second.state, sorted(new)) == ("cancelled", [1, 2, 3], "succeeded", [1, 2, 3])
    assert new[3] > 10 * old[3]
    assert (second.best_epoch, second.best_val_dice) == (index.best.epoch, index.best.val_dice)
    best = Checkpoints(files.checkpoints(first.id)).best_weights().read_bytes()
    assert (files.model(second.model_id) / "weights.safetensors").read_bytes() == best
    assert read_report(files.job(first.id))["subject"]["model"] == second.model_id
    assert (files.model(first.model_id) / "card.json").exists()


class Advising(run_doctor.Watched):
    """A doctor who is sure, once two epochs are done, that the learning rate is too low."""

    given = False

    def advise(self):
        if self.given or len(self._records) < 2:
            return None
        self.given = True
        remedy = Remedy("raise_lr", {"lr": 0.02}, from_checkpoint=True)
        return Finding("lr_too_low", Severity.WARNING, {"confidence": 0.9}, remedy=remedy)


def test_a_job_heals_itself_where_it_may(trained, database, files, monkeypatch):
    monkeypatch.setattr(training_run, "Watched", Advising)
    job = trained(epochs=3, lr=0.001, auto_heal=True)
    assert (job.state, job.epoch, job.planned("epochs"), job.planned("lr")) == (JobState.SUCCEEDED, 5, 5, 0.02)
    with database.reading() as session:
        found = session.scalars(select(JobFinding).where(JobFinding.job_id == job.id)).all()
        assert [row.epoch for row in session.scalars(select(EpochReport))] == [1, 2, 3, 4, 5]
        assert len(run_doctor.examine_job(session, job.id).history.epochs) == 3
    assert [row.finding["evidence"]["changes"] for row in found if row.finding["code"] == "treated_further"] == [
        "lr 0.001 → 0.02"
    ]
    card = json.loads((files.model(job.model_id) / "card.json").read_text("utf-8"))
    assert card["plan"]["config"]["lr"] == (0.001 if job.best_epoch <= 2 else 0.02)


def test_a_job_that_may_not_is_only_told(trained, monkeypatch):
    monkeypatch.setattr(training_run, "Watched", Advising)
    job = trained(epochs=3, lr=0.001)
    assert (job.epoch, job.plan["treatments"]) == (3, [])
