from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.data.intake import prepare
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import write_zip
from octa_backend.service import experiment, model_service
from octa_backend.service.epoch_history import HISTORY_FILE, read_history, recorded
from octa_backend.service.local_dataset import open_dataset
from octa_backend.service.start_service import StartOptions
from octa_backend.settings import Settings
from octa_backend.training.config import TrainConfig
from tests.data.zips import LIMITS
from tests.fakes import a_job, add_epochs, an_epoch, open_databases
from tests.held import KNOWN, held_at_removal
from tests.published import publish, read_card
from tests.tiny import SLOW_CPU, one_thread, tiny_networks


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    path = tmp_path_factory.mktemp("scans") / "scans.zip"
    write_zip(path, 6, size=32, seed=1)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory, scans):
    folder = tmp_path_factory.mktemp("dataset") / "store"
    prepare(scans, folder, LIMITS)
    return DatasetStore(folder)


@pytest.fixture
def model(tmp_path, store, scans):
    return publish(tmp_path / "run" / "model-e1", store, hashlib.sha256(scans.read_bytes()).hexdigest())


@pytest.fixture
def octa(tmp_path, monkeypatch):
    """Run `octa evaluate` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["evaluate", *map(str, arguments)])


def refused(result, *phrases):
    assert result.exit_code == 2, (result.output, result.exception)
    for phrase in phrases:
        assert phrase in " ".join(result.output.split())


def test_a_model_is_scored_with_a_table_a_page_and_json(octa, model, scans, tmp_path):
    result = octa(model, scans, "--out", "found", "--pixel-size-um", 12, "--tolerance", 15)
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads((tmp_path / "found" / "report.json").read_text("utf-8"))
    assert report["subject"]["split"] == "val"
    assert report["subject"]["scale"] == {"spacing": [12.0, 12.0], "tolerance": 15.0, "unit": "µm"}
    assert [scan["name"] for scan in report["scans"]] == read_card(model)["splits"]["val"]
    assert "HD95 (µm)" in result.output
    assert f"{report['summary']['dice']['mean']:.4f}" in result.output
    assert "on which the best epoch was chosen" in result.output
    assert (tmp_path / "found" / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"report.json", "report.html"}


@KNOWN
def test_nothing_is_held_of_the_folder_that_is_removed(octa, model, scans, tmp_path, monkeypatch):
    noted = held_at_removal(monkeypatch)
    assert octa(model, scans, "--split", "all", "--out", "found").exit_code == 0
    refused(octa(model, scans, "--split", "test", "--out", "found"), "no scans for test")
    assert noted == [set(), set()]


@pytest.mark.parametrize(
    ("out", "phrase"),
    [
        ("taken", "taken cannot be a folder for results: taken is a file; name another folder"),
        ("taken/below", f"{Path('taken/below')} cannot be a folder for results: taken is a file"),
        ("/proc/none", "/proc/none cannot be written to: no such file or directory; name another folder"),
        ("/proc", "/proc cannot be written to"),
    ],
)
def test_an_output_folder_that_cannot_be_one_ends_in_words(octa, model, scans, tmp_path, out, phrase):
    if out.startswith("/proc") and not Path("/proc").exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "taken").write_text("mine")
    refused(octa(model, scans, "--out", out), phrase)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_tuned_threshold_is_shown_and_used_only_if_asked(octa, model, scans, tmp_path):
    common = (model, scans, "--split", "train", "--out", "found")
    tuned = octa(*common, "--tune-threshold")
    assert "highest mean Dice over 2 validation scans" in tuned.output
    assert "scored at a threshold of 0.5" in tuned.output
    octa(*common, "--use-tuned-threshold")
    report = json.loads((tmp_path / "found" / "report.json").read_text("utf-8"))
    assert report["subject"]["threshold"] == report["tuned"]["threshold"] != 0.5
    octa(*common, "--threshold", 0.25)
    report = json.loads((tmp_path / "found" / "report.json").read_text("utf-8"))
    assert (report["subject"]["threshold"], report["tuned"]) == (0.25, None)


def test_answers_are_averaged_over_eight_views_where_that_is_asked_for(octa, model, scans, tmp_path):
    assert "views of the scan" not in octa(model, scans, "--out", "found").output
    result = octa(model, scans, "--out", "found", "--tta")
    assert "the mean over 8 views" in result.output
    assert json.loads((tmp_path / "found" / "report.json").read_text("utf-8"))["subject"]["tta"]
    assert "views averaged (tta)" in (tmp_path / "found" / "report.html").read_text("utf-8")


def test_the_epochs_noted_beside_the_model_are_drawn(octa, model, scans, tmp_path):
    emit = recorded(lambda event: None, model.parent / HISTORY_FILE)
    for number in (1, 2):
        emit(an_epoch(number))
    octa(model, scans, "--out", "found")
    report = json.loads((tmp_path / "found" / "report.json").read_text("utf-8"))
    assert [epoch["epoch"] for epoch in report["history"]] == [1, 2]
    assert (tmp_path / "found" / "report.html").read_text("utf-8").count("<polyline") == 4


def test_a_training_without_server_notes_its_epochs_beside_its_model(monkeypatch, scans, tmp_path):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    config = TrainConfig(model="small_unet", epochs=1, start_checks=False)
    dataset = open_dataset(scans, tmp_path, config, Settings(device="cpu"), StartOptions())
    result = dataset.training().train(lambda event: None, lambda: False)
    [epoch] = read_history(result.model.parent / HISTORY_FILE)
    assert (epoch["epoch"], epoch["val_dice"]) == (1, result.outcome.best.val_dice)


def test_the_epochs_of_a_model_of_the_data_folder_come_from_its_database(octa, store, scans, settings, files, database):
    digest = hashlib.sha256(scans.read_bytes()).hexdigest()
    model = publish(files.model("m1"), store, digest)
    with database.writing() as session:
        job = a_job(session)
        add_epochs(session, job, 3)
        model_service.register(session, "m1", job, read_card(model))
    result = octa("m1", scans, "--out", files.root / "found", "--data-dir", settings.data_dir)
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads((files.root / "found" / "report.json").read_text("utf-8"))
    assert [epoch["epoch"] for epoch in report["history"]] == [1, 2, 3]
    database.close()
    assert not open_databases()


def test_a_model_that_the_database_does_not_know_has_no_history(octa, model, scans, settings, database):
    result = octa(model, scans, "--data-dir", settings.data_dir)
    assert result.exit_code == 0, (result.output, result.exception)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("--split", "test"), "the zip has no scans for test: 4 train, 2 val, 0 test, 6 in all"),
        (("--split", "validation"), "--split"),
        (("--threshold", 1), "--threshold"),
        (("--tolerance", -1), "--tolerance"),
        (("--pixel-size-um", 0), "give one length above 0"),
        (("--pixel-size-um", 1, "--pixel-size-um", 1, "--pixel-size-um", 1), "one for each of 2 axes"),
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_ends_in_words(octa, model, scans, arguments, phrase):
    refused(octa(model, scans, *arguments), phrase)


def test_an_unknown_model_and_what_is_no_zip_end_in_words(octa, model, scans, tmp_path):
    refused(octa("nope", scans), "'nope' is neither a model's folder nor the id of a model")
    (tmp_path / "scans.zip").write_text("text")
    refused(octa(model, "scans.zip"), "is not a zip archive")
    refused(octa(model, "none.zip"), "does not exist")


def test_brackets_in_names_are_shown_as_they_are(octa, model, scans, tmp_path):
    odd = tmp_path / "a[red]b.zip"
    odd.write_bytes(scans.read_bytes())
    result = octa(model, odd)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "a[red]b.zip" in result.output
