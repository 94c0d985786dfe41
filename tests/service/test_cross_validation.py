"""A cross-validation from start to ensemble, with a tiny network in this process."""

from __future__ import annotations

import json
from shutil import copyfile

import numpy as np
import pytest

from octa_backend.data.store import DatasetStore
from octa_backend.errors import IncompatibleCheckpoint, ModelInUse, ModelNotFound
from octa_backend.inference.model_card import ModelCard
from octa_backend.inference.model_folder import read_card
from octa_backend.service import attempt_service, evaluation_run, experiment, fold_service, model_service, train_service
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.service.evaluation_model import open_model
from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.predict_service import load_predictor
from octa_backend.service.report_service import REPORT_HTML, read_report
from octa_backend.service.training_run import run_training
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, remove
from octa_backend.storage.tables import Job, JobState, Model
from octa_backend.training import precision
from octa_backend.training.config import TrainConfig
from octa_backend.training.threshold import pool
from tests.fakes import a_dataset
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs, tiny_networks, write_store

SCANS, TEST = 7, ("s5", "s6")
SPLITS = (None,) * 5 + ("test",) * 2


def run_next(settings, files, database, should_stop=lambda: False):
    """Do what waits next; returns its job as it ended."""
    with database.writing() as session:
        attempt = attempt_service.claim_next(session, 1)
    run_training(WorkerOrder.of(settings, attempt.job_id, attempt.id), files, database, should_stop)
    with database.reading() as session:
        return session.get_one(Job, attempt.job_id)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, migrated):
    """Two folds and their ensemble: settings, files, database and the parent's id."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("folds") / "data", device="cpu")
    files = Files.of(settings)
    files.prepare()
    copyfile(migrated, files.root / "octa.sqlite3")
    database = Database(settings.effective_database_url)
    with tiny_networks(), one_thread(), pytest.MonkeyPatch.context() as patch:
        for module in (experiment, precision):
            patch.setattr(module, "probe", lambda device: SLOW_CPU)
        with database.writing() as session:
            dataset = a_dataset(session, scans=SCANS)
            write_store(files.dataset(dataset.id), synthetic_pairs(SCANS), splits=SPLITS)
            config = TrainConfig(
                model="small_unet", epochs=1, folds=2, augmentation="none", lr=0.01, start_checks=False
            )
            parent = train_service.start(session, dataset.id, config).id
        for _ in range(3):
            assert run_next(settings, files, database).state == JobState.SUCCEEDED
        yield settings, files, database, parent
    database.close()


def rows(database, parent):
    with database.reading() as session:
        return session.get_one(Job, parent), fold_service.folds_of(session, parent)


def test_each_fold_reports_on_the_scans_it_left_out_and_leaves_the_test_split_alone(finished):
    _, files, database, parent = finished
    left_out = []
    for fold in rows(database, parent)[1]:
        report = read_report(files.job(fold.id))
        assert report["notes"][0] == "one_fold"
        assert report["subject"]["split"] == "val"
        left_out += [scan["name"] for scan in report["scans"]]
        assert fold.test is None
        card = json.loads((files.model(fold.model_id) / "card.json").read_text())
        assert card["splits"]["test"] == list(TEST)
    assert sorted(left_out) == [f"s{number}" for number in range(5)]


def test_the_summary_has_every_scan_out_of_fold_and_the_test_split_by_the_ensemble(finished):
    _, files, database, parent = finished
    job, folds = rows(database, parent)
    report = read_report(files.job(parent))
    assert (report["kind"], report["model"]) == ("cross_validation", job.model_id)
    found = report["out_of_fold"]
    assert [scan["name"] for scan in found["scans"]] == [f"s{number}" for number in range(5)]
    dice = {scan["name"]: scan["metrics"]["overall"]["dice"] for scan in found["scans"]}
    assert found["summary"]["dice"]["mean"] == pytest.approx(np.mean(list(dice.values())))
    assert found["summary"]["dice"]["interval"]["low"] <= found["summary"]["dice"]["mean"]
    means = [np.mean([dice[scan["name"]] for scan in read_report(files.job(f.id))["scans"]]) for f in folds]
    assert [fold["dice"] for fold in report["folds"]] == pytest.approx(means)
    assert report["dice_over_folds"]["std"] == pytest.approx(np.std(means))
    assert [fold["model"] for fold in report["folds"]] == [fold.model_id for fold in folds]
    assert [scan["name"] for scan in report["test"]["scans"]] == list(TEST)
    assert job.test["dice"] == pytest.approx(report["test"]["summary"]["dice"]["mean"])
    page = (files.job(parent) / REPORT_HTML).read_text("utf-8")
    assert page.count("<figure>") == len(TEST)


def test_the_ensembles_probabilities_are_the_mean_of_its_members(finished):
    _, files, database, parent = finished
    job, folds = rows(database, parent)
    store = DatasetStore(files.dataset(job.file_id))
    image = store.image(0)
    members = [load_predictor(files.model(fold.model_id), "cpu").predict(image).probability for fold in folds]
    together = load_predictor(files.model(job.model_id), "cpu").predict(image).probability
    assert np.abs(members[0] - members[1]).max() > 1e-3
    np.testing.assert_allclose(together, np.mean(members, axis=0), atol=1e-6)
    evaluated = open_model(files.model(job.model_id), "cpu")
    np.testing.assert_allclose(evaluated.probabilities(image)[1], together, atol=1e-5)


def test_the_ensembles_card_holds_what_a_prediction_needs(finished):
    _, files, database, parent = finished
    job, folds = rows(database, parent)
    store = DatasetStore(files.dataset(job.file_id))
    card, *of_folds = (read_card(files.model(one.model_id)) for one in (job, *folds))
    assert card["mask_values"] == list(store.manifest.mask_values)
    assert card["scan_statistics"]["scans"] == len(store) - len(TEST)
    tunings = [read_report(files.job(fold.id))["tuned"] for fold in folds]
    assert [one["tuned_threshold"]["threshold"] for one in of_folds] == [one["threshold"] for one in tunings]
    pooled = pool([(list(one["curve"].values()), one["scans"]) for one in tunings])
    assert card["tuned_threshold"]["threshold"] == pooled.threshold
    assert card["tuned_threshold"]["scans"] == len(store) - len(TEST)
    predictor = load_predictor(files.model(job.model_id), "cpu")
    assert predictor.tuned_threshold == pooled.threshold
    assert predictor.scan_statistics == card["scan_statistics"]


def test_the_report_says_of_the_test_split_what_an_evaluation_of_the_ensemble_says(finished):
    _, files, database, parent = finished
    job, _ = rows(database, parent)
    model = open_model(files.model(job.model_id), "cpu")
    data = EvaluatedZip(DatasetStore(files.dataset(job.file_id)), "scans.zip", model.card["dataset"]["sha256"])
    run = design_evaluation(model, data, EvaluationOptions())
    assert run.split == "test"
    found = run.run(lambda name: None).report
    assert found.summary["dice"].mean == pytest.approx(job.test["dice"])
    assert found.notes == ()
    whole = design_evaluation(model, data, EvaluationOptions(split="all")).run(lambda name: None).report
    assert "trained_on_these_scans" in whole.notes


def test_the_ensembles_card_is_of_the_schema_and_knows_what_its_members_know(finished):
    _, files, database, parent = finished
    job, folds = rows(database, parent)
    card = read_card(files.model(job.model_id))
    read = ModelCard.model_validate(card)
    assert [member.model_id for member in read.members] == [fold.model_id for fold in folds]
    assert (read.ignore_index, read.licence, read.test["scans"]) == (None, None, len(TEST))
    one = read_card(files.model(folds[0].model_id))
    assert [finding.code for finding in read.findings][: len(one["findings"])] == [f["code"] for f in one["findings"]]
    assert read.versions == one["versions"]


def test_a_member_stays_while_its_ensemble_is_there(finished):
    _, _, database, parent = finished
    job, folds = rows(database, parent)
    with pytest.raises(ModelInUse, match=f"is a member of ensemble {job.model_id}"), database.writing() as session:
        model_service.forget(session, folds[0].model_id)


def test_an_ensemble_without_a_member_says_which(finished, tmp_path):
    _, files, database, parent = finished
    alone = tmp_path / "ensemble"
    alone.mkdir()
    card = (files.model(rows(database, parent)[0].model_id) / "card.json").read_text()
    (alone / "card.json").write_text(card)
    with pytest.raises(IncompatibleCheckpoint, match=r"model ensemble needs .*weights.safetensors, which is not there"):
        load_predictor(alone, "cpu")


def test_a_conclusion_that_died_after_its_report_does_not_score_the_test_split_again(finished, monkeypatch):
    settings, files, database, parent = finished
    before = rows(database, parent)[0]
    with database.writing() as session:
        job = session.get_one(Job, parent)
        job.move_to(JobState.QUEUED)  # as if the attempt had died before its end
        job.test = None
    remove(files.model(before.model_id))
    monkeypatch.setattr(evaluation_run, "measure_scan", None)
    job = run_next(settings, files, database)
    assert (job.state, job.test, job.model_id) == (JobState.SUCCEEDED, before.test, before.model_id)


def test_without_a_test_split_there_is_the_summary_alone(settings, database, files, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    with tiny_networks(), one_thread():
        with database.writing() as session:
            dataset = a_dataset(session, scans=SCANS)
            write_store(files.dataset(dataset.id), synthetic_pairs(SCANS))
            config = TrainConfig(model="small_unet", epochs=1, folds=2, augmentation="none", start_checks=False)
            parent = train_service.start(session, dataset.id, config).id
        for _ in range(3):
            run_next(settings, files, database)
    job, _ = rows(database, parent)
    assert (job.state, job.test) == (JobState.SUCCEEDED, None)
    report = read_report(files.job(parent))
    assert report["test"] is None
    assert len(report["out_of_fold"]["scans"]) == SCANS


def test_a_fold_whose_model_is_gone_publishes_it_again_from_its_checkpoint(settings, database, files, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    with tiny_networks(), one_thread():
        parent = start_two_folds(database, files)
        gone = run_next(settings, files, database).model_id
        run_next(settings, files, database)
        weights = (files.model(gone) / "weights.safetensors").read_bytes()
        forget_as_earlier_versions_did(database, files, gone)
        with pytest.raises(ModelNotFound, match=f"the model of fold 1 was deleted .*; resume job {parent}, "):
            run_next(settings, files, database)
        fail_and_resume(database, parent)
        with monkeypatch.context() as patch:
            patch.setattr(evaluation_run, "measure_scan", None)  # its report is there
            assert run_next(settings, files, database).model_id == gone
        assert run_next(settings, files, database).id == parent
    job, folds = rows(database, parent)
    assert (job.state, folds[0].model_id, folds[0].epoch) == (JobState.SUCCEEDED, gone, 1)
    assert (files.model(gone) / "weights.safetensors").read_bytes() == weights
    assert read_card(files.model(job.model_id))["members"][0]["model_id"] == gone


def start_two_folds(database, files):
    with database.writing() as session:
        dataset = a_dataset(session, scans=SCANS)
        write_store(files.dataset(dataset.id), synthetic_pairs(SCANS), splits=SPLITS)
        config = TrainConfig(model="small_unet", epochs=1, folds=2, augmentation="none", start_checks=False)
        return train_service.start(session, dataset.id, config).id


def forget_as_earlier_versions_did(database, files, model_id):
    with database.writing() as session:
        session.get_one(Job, session.get_one(Model, model_id).job_id).model_id = None
        session.delete(session.get_one(Model, model_id))
    remove(files.model(model_id))


def fail_and_resume(database, parent):
    with database.writing() as session:
        [attempt] = attempt_service.open_attempts(session)
        attempt_service.end(session, attempt.id, "its model is gone").move_to(JobState.FAILED)
        train_service.resume(session, parent, {})


def test_a_conclusion_that_is_asked_to_stop_is_cancelled(settings, database, files, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    with tiny_networks(), one_thread():
        parent = start_two_folds(database, files)
        run_next(settings, files, database)
        run_next(settings, files, database)
        assert run_next(settings, files, database, lambda: True).id == parent
    job, _ = rows(database, parent)
    assert (job.state, job.model_id) == (JobState.CANCELLED, None)
    assert read_report(files.job(parent)) is None
