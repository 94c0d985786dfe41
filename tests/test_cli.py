from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from dataclasses import asdict

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.commands import jobs
from octa_backend.commands.http_client import client
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import write_zip
from octa_backend.models import registry
from octa_backend.service import experiment
from octa_backend.service.epoch_history import HISTORY_FILE, read_history
from octa_backend.service.process import ProcessMark
from octa_backend.storage.tables import JobState
from octa_backend.training import precision
from octa_backend.training.config import TrainConfig
from tests.data.zips import encoded, grey
from tests.fakes import a_job, add_epochs, open_databases, wait_for
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs

UNTRIED = ("--start-checks", "false")
"""What is tried before the first step takes seconds, and is tested elsewhere."""


@pytest.fixture
def octa(tmp_path, monkeypatch):
    """Run a command in an empty folder; returns its result, with all that was printed in `output`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    runner = CliRunner()
    interrupt = signal.getsignal(signal.SIGINT)
    yield lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])
    signal.signal(signal.SIGINT, interrupt)


def refused(result, *phrases):
    """Assert that a command ended in words with status 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    for phrase in phrases:
        assert phrase in " ".join(result.output.split())


def test_help_lists_the_commands(octa):
    result = octa("--help")
    assert result.exit_code == 0
    for command in ("serve", "train", "predict", "jobs", "synth"):
        assert command in result.output


def test_help_of_a_training_lists_every_field_of_its_configuration(octa):
    output = octa("train", "--help").output
    for name in TrainConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in output


def test_synth_writes_a_zip_of_scans_and_masks(octa, tmp_path):
    result = octa("synth", "out.zip", "-n", 3, "--size", 32, "--seed", 5)
    assert result.exit_code == 0
    assert "3 scans of 32×32 in out.zip" in result.output
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == 6


@pytest.mark.parametrize(
    "arguments", [("-n", 0), ("--size", 31), ("--size", "big"), ("--seed", -1), ("--colour",)], ids=str
)
def test_synth_refuses_what_it_cannot_make(octa, tmp_path, arguments):
    refused(octa("synth", "out.zip", *arguments), str(arguments[0]))
    assert list(tmp_path.iterdir()) == []


def test_synth_makes_the_folder_it_writes_into(octa, tmp_path):
    out = tmp_path / "no" / "such" / "out.zip"
    assert octa("synth", out, "-n", 1, "--size", 32).exit_code == 0
    assert zipfile.is_zipfile(out)


def test_synth_refuses_a_place_that_cannot_be_written(octa, tmp_path):
    (tmp_path / "taken").write_text("mine")
    refused(octa("synth", "taken/out.zip", "-n", 1), "taken cannot be a folder for results: taken is a file")
    refused(octa("synth", "out.zip", "-n", 1, "--sheet", tmp_path), f"{tmp_path} is a folder; name a file to write")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# --- train and predict -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    path = tmp_path_factory.mktemp("scans") / "scans.zip"
    write_zip(path, 4, size=32, seed=1)
    return path


@pytest.fixture
def quick(monkeypatch):
    """A `unet` with few features on one thread, and no measurement of the device, which takes a second or more."""

    for module in (experiment, precision):
        monkeypatch.setattr(module, "probe", lambda device: SLOW_CPU)
    small = registry.NetworkEntry("tests.tiny", "SmallUNet", "for tests")
    monkeypatch.setattr(registry, "NETWORKS", {**registry.NETWORKS, "unet": small})
    with one_thread():
        yield


@pytest.mark.usefixtures("quick")
def test_a_model_is_trained_goes_on_when_run_again_and_segments_a_scan(octa, scans, tmp_path):
    common = ("train", scans, "--out", "run", *UNTRIED, "--model", "unet", "--device", "cpu", "--batch-size", 2)
    first = octa(*common, "--epochs", 1)
    assert first.exit_code == 0, (first.output, first.exception)
    assert "epoch 1: train loss" in first.output
    assert "all epochs done" in first.output
    assert (tmp_path / "run" / "augmentation.png").exists()
    model = tmp_path / "run" / "model-e1"
    card = json.loads((model / "card.json").read_text("utf-8"))
    assert (card["network"], card["best"]["epoch"], card["plan"]["config"]["epochs"]) == ("unet", 1, 1)

    again = octa(*common, "--epochs", 2)
    assert again.exit_code == 0, (again.output, again.exception)
    assert "epoch 2: train loss" in again.output
    index = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())
    assert index["last"] == 2

    (tmp_path / "eye.png").write_bytes(encoded(grey(3, height=40, width=33)))
    common = ("predict", model, "eye.png", "--threshold", 0.4, "--data-dir", "none")
    predicted = octa(*common, "--out", "found", "--pixel-size-um", 12, "--measure-picture")
    assert predicted.exit_code == 0, (predicted.output, predicted.exception)
    assert "eye.png: foreground" in predicted.output
    with (tmp_path / "found" / "measurements.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["measurement"]: row for row in csv.DictReader(file)}
    assert (rows["faz_area"]["scan"], rows["faz_area"]["unit"]) == ("eye.png", "mm²")
    assert all(bool(row["value"]) != bool(row["reason"]) for row in rows.values())
    with Image.open(tmp_path / "found" / "eye_measured.png") as drawn:
        assert drawn.size == (33 * 30, 40 * 30)
    plain = octa(*common, "--out", "plain", "--no-measure")
    assert plain.exit_code == 0, (plain.output, plain.exception)
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == ["eye_mask.png", "eye_overlay.png"]
    with Image.open(tmp_path / "found" / "eye_mask.png") as mask:
        assert mask.size == (33, 40)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    with Image.open(tmp_path / "found" / "eye_overlay.png") as overlay:
        assert (overlay.size, overlay.mode) == ((33, 40), "RGB")


@pytest.mark.usefixtures("quick")
def test_a_finished_training_leaves_its_report(octa, scans, tmp_path):
    result = octa("train", scans, "--out", "run", *UNTRIED, "--model", "unet", "--device", "cpu", "--epochs", 1)
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert (report["subject"]["model"], report["subject"]["split"]) == ("model-e1", "val")
    assert "no_test_split" in report["notes"]
    assert len(report["history"]) == 1
    assert "<svg" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("quick")
def test_folds_are_trained_one_after_another_and_answer_together(octa, scans, tmp_path):
    common = (
        "train",
        scans,
        "--out",
        "run",
        *UNTRIED,
        "--model",
        "unet",
        "--device",
        "cpu",
        "--epochs",
        1,
        "--folds",
        2,
    )
    first = octa(*common)
    assert first.exit_code == 0, (first.output, first.exception)
    for phrase in ("fold 1 of 2", "fold 2 of 2", "out-of-fold Dice", "over the folds", "ensemble"):
        assert phrase in first.output
    report = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert [len(fold) for fold in (report["folds"], report["out_of_fold"]["scans"])] == [2, 4]
    [ensemble] = (tmp_path / "run").glob("ensemble-*")
    members = json.loads((ensemble / "card.json").read_text("utf-8"))["members"]
    assert [member["folder"] for member in members] == [f"fold-{n}-of-2/model-e1" for n in (1, 2)]

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("report.html")}
    assert len(written) == 3
    again = octa(*common)
    assert again.exit_code == 0, (again.output, again.exception)
    assert {path: path.stat().st_mtime_ns for path in written} == written

    (tmp_path / "eye.png").write_bytes(encoded(grey(3, height=40, width=33)))
    predicted = octa("predict", ensemble, "eye.png", "--out", "found", "--data-dir", "none")
    assert predicted.exit_code == 0, (predicted.output, predicted.exception)
    assert (tmp_path / "found" / "eye_mask.png").exists()
    evaluated = octa("evaluate", ensemble, scans, "--out", "scores", "--data-dir", "none")
    assert evaluated.exit_code == 0, (evaluated.output, evaluated.exception)

    single = octa(*common[:-2])
    assert single.exit_code == 0, (single.output, single.exception)
    assert json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["kind"] == "evaluation"


@pytest.mark.usefixtures("quick")
def test_more_folds_than_patients_are_refused(octa, scans):
    result = octa("train", scans, "--out", "run", *UNTRIED, "--device", "cpu", "--folds", 9)
    refused(result, "folds=9, but the dataset has 2 patients")
    assert "fold 1" not in result.output


@pytest.mark.usefixtures("quick")
def test_the_learning_rate_is_searched_for_without_training(octa, scans, tmp_path):
    result = octa("train", scans, "--out", "run", *UNTRIED, "--model", "unet", "--device", "cpu", "--find-lr")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "learning rate range test" in result.output
    assert "1e-06" in result.output
    assert "suggestion: --lr" in result.output
    assert [path.name for path in sorted((tmp_path / "run").iterdir())] == ["dataset", "dataset.sha256"]


@pytest.mark.usefixtures("quick")
def test_the_rate_that_was_found_is_kept_when_a_training_goes_on(octa, scans, tmp_path):
    common = ("train", scans, "--out", "run", *UNTRIED, "--model", "unet", "--device", "cpu", "--lr", "auto")
    first = octa(*common, "--epochs", 1)
    assert first.exit_code == 0, (first.output, first.exception)
    assert "a range test from 1e-06 to 1" in first.output
    plan = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))["plan"]
    assert 0 < plan["config"]["lr"] <= 1
    again = octa(*common, "--epochs", 2)
    assert again.exit_code == 0, (again.output, again.exception)
    kept = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))["plan"]
    assert kept["config"] == {**plan["config"], "epochs": 2}
    assert kept["reasons"] == plan["reasons"]


@pytest.mark.usefixtures("quick")
def test_a_training_that_is_begun_with_other_options_gets_a_plan_of_its_own(octa, scans, tmp_path):
    common = ("train", scans, "--out", "run", *UNTRIED, "--model", "unet", "--device", "cpu")
    octa(*common, "--epochs", 1, "--patch-size", 64)
    octa(*common, "--epochs", 2, "--patch-size", 32)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))["plan"]
    assert (plan["config"]["patch_size"], plan["patch_shape"]) == (32, [32, 32])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("folds", [(), ("--folds", 2)])
def test_weights_that_are_there_keep_their_network_and_normalisation_under_other_options(octa, scans, tmp_path, folds):
    common = ("train", scans, "--out", "run", *UNTRIED, "--device", "cpu", *folds)
    octa(*common, "--epochs", 1, "--model", "tiny_unet", "--normalisation", "percentile")
    again = octa(*common, "--epochs", 2, "--patch-size", 32)
    assert again.exit_code == 0, (again.output, again.exception)
    kept = list((tmp_path / "run").glob("**/checkpoints/last-00002/plan.json"))
    assert len(kept) == (2 if folds else 1)
    for path in kept:
        plan = json.loads(path.read_text("utf-8"))
        assert (plan["config"]["model"], plan["config"]["normalisation"]) == ("tiny_unet", "percentile")
        said = {one["field"]: one["reason"] for one in plan["reasons"]}
        assert said["normalisation"].startswith("as the weights that are there were trained")
    asked = octa(*common, "--epochs", 3, "--patch-size", 32, "--normalisation", "zscore")
    assert asked.exit_code == 0, (asked.output, asked.exception)
    plans = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "run").glob("**/checkpoints/last-*/plan.json")]
    assert [plan["config"]["normalisation"] for plan in plans] == ["zscore"] * (2 if folds else 1)


@pytest.mark.usefixtures("quick")
def test_a_training_goes_on_with_another_loss(octa, scans, tmp_path):
    common = ("train", scans, "--out", "run", *UNTRIED, "--model", "tiny_unet", "--device", "cpu")
    octa(*common, "--epochs", 2)
    other = octa(*common, "--epochs", 3, "--focal-loss")
    assert other.exit_code == 0, (other.output, other.exception)
    back = octa("train", "--resume", "run", "--epochs", 4)
    assert back.exit_code == 0, (back.output, back.exception)
    told = read_history(tmp_path / "run" / HISTORY_FILE)
    assert [set(epoch["loss_components"]) for epoch in told][1:3] == [{"bce", "dice"}, {"focal", "dice"}]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("folds", [(), ("--folds", 2)])
@pytest.mark.parametrize("other", [("--seed", 7), ("--val-fraction", 0.4)])
def test_scans_that_the_weights_were_trained_on_do_not_validate_them(octa, tmp_path, folds, other):
    write_zip(tmp_path / "ten.zip", 10, size=32, seed=1)
    common = ("train", "ten.zip", "--out", "run", *UNTRIED, "--model", "tiny_unet", "--device", "cpu", *folds)
    octa(*common, "--epochs", 1)
    again = octa(*common, "--epochs", 2, *other)
    if folds and "--val-fraction" in other:  # of no effect there
        assert again.exit_code == 0, (again.output, again.exception)
    else:
        refused(again, f"with {other[0][2:].replace('-', '_')}={other[1]} other scans validate", "keep ")


@pytest.mark.usefixtures("quick")
def test_a_training_goes_on_with_what_the_remedies_set_unless_it_is_set_by_hand(octa, scans, tmp_path):
    common = ("train", scans, "--out", "run", *UNTRIED, "--device", "cpu")
    octa(*common, "--epochs", 1, "--repair")
    first = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))
    assert first["config_changes"] == {"model": "unet"}  # few scans
    again = octa(*common, "--epochs", 2)
    assert again.exit_code == 0, (again.output, again.exception)
    kept = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))
    assert kept["plan"]["config"] == {**first["plan"]["config"], "epochs": 2}
    other = octa(*common, "--epochs", 2, "--model", "tiny_unet")
    refused(other, "does not fit the network")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("again", [(), ("--repair",)])
def test_scans_that_were_not_judged_when_a_run_broke_off_are_taken_in_anew(octa, tmp_path, monkeypatch, again):
    pairs = synthetic_pairs(6)
    with zipfile.ZipFile(tmp_path / "inverted.zip", "w") as archive:
        for number, (image_CHW, mask) in enumerate(pairs):
            archive.writestr(f"images/{number}.png", encoded(Image.fromarray(image_CHW[0])))
            archive.writestr(
                f"masks/{number}.png", encoded(Image.fromarray(np.uint8(255) * ((mask == 0) == (number == 3))))
            )
    common = ("train", "inverted.zip", "--out", "run", *UNTRIED, "--device", "cpu", "--epochs", 1)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("octa_backend.service.local_dataset.write_repaired_copy", interrupt)
        octa(*common, "--repair")
    assert (tmp_path / "run" / "dataset").exists()
    result = octa(*common, *again)
    if again:
        assert result.exit_code == 0, (result.output, result.exception)
        assert DatasetStore(tmp_path / "run" / "dataset").mask(3).astype(bool).mean() < 0.5
    else:
        refused(result, "--repair")


@pytest.mark.usefixtures("quick")
def test_a_training_that_ends_early_says_so(octa, scans):
    common = ("train", scans, "--out", "run", *UNTRIED, "--model", "unet", "--device", "cpu")
    result = octa(*common, "--epochs", 50, "--max-minutes", 0.0001)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "0.0001 minutes are over (max_minutes)" in " ".join(result.output.split())
    assert "early (time_used_up)" in result.output


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("--epochs", "0"), "epochs='0': Input should be greater than or equal to 1"),
        (("--lr", "fast"), "lr='fast'"),
        (("--model", "resnet"), "no network is called 'resnet'"),
        (("--device", "tpu:x"), "'tpu:x' is not a device"),
        (("--epoch", "3"), "No such option"),
    ],
)
def test_an_option_with_a_wrong_value_ends_with_status_2_and_words(octa, scans, arguments, phrase):
    refused(octa("train", scans, "--out", "run", *UNTRIED, *arguments), phrase)


def test_a_training_on_what_is_no_zip_ends_in_words(octa, tmp_path):
    (tmp_path / "scans.zip").write_text("text")
    refused(octa("train", "scans.zip"), "is not a zip archive")
    refused(octa("train", "missing.zip"), "missing.zip", "does not exist")


def test_a_training_on_scans_without_masks_names_the_faults(octa, tmp_path):
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.writestr("images/1[a].png", encoded(grey(1)))
    refused(octa("train", "scans.zip"), "The scans and masks do not fit together.", "no masks were found", "1[a].png")


def test_a_prediction_with_an_unknown_model_or_threshold_ends_in_words(octa, tmp_path):
    (tmp_path / "eye.png").write_bytes(encoded(grey(3)))
    refused(octa("predict", "nope", "eye.png"), "'nope' is neither a model's folder nor the id of a model")
    refused(octa("predict", "nope", "eye.png", "--threshold", 2), "threshold")
    refused(octa("predict", "nope", "none.png"), "none.png", "does not exist")


def test_a_prediction_with_two_scales_or_a_picture_of_nothing_ends_in_words(octa, tmp_path):
    (tmp_path / "eye.png").write_bytes(encoded(grey(3)))
    sizes = ("--pixel-size-um", 12, "--field-of-view-mm", 3)
    refused(octa("predict", "nope", "eye.png", *sizes), "The size of a pixel is not clear.", "send one of them")
    refused(octa("predict", "nope", "eye.png", "--pixel-size-um", 0), "must be from 0.0001")
    refused(octa("predict", "nope", "eye.png", "--no-measure", "--measure-picture"), "leave --no-measure out")


@pytest.mark.parametrize("name", ["a[b]c", "[/b]"])
def test_brackets_in_a_name_are_shown_as_they_are(octa, tmp_path, name):
    (tmp_path / "eye.png").write_bytes(encoded(grey(3)))
    refused(octa("predict", name, "eye.png"), repr(name))


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_the_jobs_of_a_folder_are_shown(octa, settings, database):
    with database.writing() as session:
        job = a_job(session, epochs=4)
        add_epochs(session, job, 3)
        other = a_job(session)
        other.move_to(JobState.CANCELLED)
    result = octa("jobs", "--data-dir", settings.data_dir)
    assert result.exit_code == 0, (result.output, result.exception)
    lines = {line.split()[1]: line for line in result.output.splitlines() if line.startswith("│")}
    assert "queued" in lines[job.id]
    assert "3/4" in lines[job.id]
    assert "0.5000" in lines[job.id]
    assert "cancelled" in lines[other.id]


def test_the_database_of_a_folder_is_closed_again(octa, settings, database):
    database.close()
    assert not open_databases()
    result = octa("jobs", "--data-dir", settings.data_dir)
    assert result.exit_code == 0, (result.output, result.exception)
    assert not open_databases()


def test_a_folder_without_a_database_is_said_to_have_none_and_stays_as_it_is(octa, tmp_path):
    refused(octa("jobs", "--data-dir", "nothing"), "nothing holds no database")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    refused(octa("jobs", "--data-dir", "empty"), "empty holds no database")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:80:80", "no-address", "http://[bad"])
def test_a_server_that_does_not_answer_is_an_error_in_words(octa, url):
    refused(octa("jobs", "--url", url), "The server does not answer.", url)


@pytest.mark.parametrize("said", ["<!DOCTYPE html><title>Router</title>", "[]", '{"jobs": []}', "null"])
def test_another_program_that_answers_is_an_error_in_words(octa, monkeypatch, said):
    answering = httpx.MockTransport(lambda request: httpx.Response(200, text=said))
    monkeypatch.setattr(jobs, "client", lambda **options: httpx.Client(transport=answering, **options))
    refused(octa("jobs", "--url", "http://octa.example"), "http://octa.example: what answers there is another program")


# --- serve -----------------------------------------------------------------------------------------------------------


def test_a_misspelt_variable_is_an_error_in_words(octa, monkeypatch):
    monkeypatch.setenv("OCTA_PROT", "1")
    refused(octa("serve"), "OCTA_PROT is not a setting; did you mean OCTA_PORT?")


def test_a_list_that_is_not_json_is_an_error_in_words(octa, monkeypatch):
    monkeypatch.setenv("OCTA_API_KEYS", "my-key")
    refused(octa("serve"), "api_keys")


def test_serving_a_network_without_a_key_is_refused_with_what_to_do(octa):
    refused(octa("serve", "--host", "0.0.0.0"), "OCTA_API_KEYS='[\"a-long-random-key\"]'")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


LIGHT_HELP = """
import sys
from octa_backend.cli import app
from octa_backend.commands.http_client import client
try:
    app(["--help"])
finally:
    assert not {"torch", "fastapi", "sqlalchemy", "PIL"} & set(sys.modules), "help waits for what it does not need"
"""


def test_help_imports_nothing_heavy():
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", LIGHT_HELP]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert "predict" in result.stdout


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_help_is_shown_on_a_console_that_lacks_a_letter(command):
    environment = {**os.environ, "PYTHONIOENCODING": "gbk", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [sys.executable, "-m", "octa_backend.cli", command, "--help"], capture_output=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "--out" in result.stdout.decode("gbk")


KILLED = "Windows has no signal that asks a process to end"


def ask(port, path):
    with client(base_url=f"http://127.0.0.1:{port}", timeout=5) as asking:
        return asking.get(path)


def answers(server, port, log):
    """Whether the server answers; it must live."""
    try:
        return ask(port, "/health").status_code == 200
    except httpx.TransportError:
        assert server.poll() is None, log.read_text()
        return False


@pytest.mark.skipif(sys.platform == "win32", reason=KILLED)
@pytest.mark.timeout(120)
def test_the_server_ends_soon_while_somebody_follows_a_job(settings, database):
    with database.writing() as session:
        a_job(session, state=JobState.RUNNING, id="followed")
    log, port = settings.data_dir / "log", free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCTA_")}
    command = [sys.executable, "-m", "octa_backend.cli", "serve", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--data-dir", str(settings.data_dir)], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for("the first answer", lambda: answers(server, port, log), seconds=60)
        followed = f"http://127.0.0.1:{port}/train/jobs/followed/events"
        with client(timeout=60) as asking, asking.stream("GET", followed) as events:
            next(events.iter_lines())
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    finally:
        server.kill()
        server.wait()
    assert not (settings.data_dir / "server.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason=KILLED)
@pytest.mark.timeout(120)
def test_the_server_answers_soon_shows_its_settings_without_secrets_and_ends_cleanly(tmp_path):
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCTA_")}
    environment |= {"OCTA_API_KEYS": '["the-hidden-key"]', "COLUMNS": "250"}
    command = [sys.executable, "-m", "octa_backend.cli", "serve", "--port", str(port), "--data-dir", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    try:
        wait_for("the first answer", lambda: answers(server, port, tmp_path / "log"), seconds=60)
        used = psutil.Process(server.pid).cpu_times()
        assert used.user + used.system < 10, "more than it takes without torch, on however busy a machine"
        assert ask(port, "/version").status_code == 401
        assert "torch" not in " ".join(entry.path for entry in psutil.Process(server.pid).memory_maps())
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    shown = (tmp_path / "log").read_text()
    assert "1 keys" in shown
    assert "the-hidden-key" not in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "server.json").exists()


def test_a_database_of_another_version_is_said_to_be_one(octa, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "octa.sqlite3").touch()
    refused(octa("jobs", "--data-dir", "old"), "octa.sqlite3 is of an older version of the program; octa serve brings")


@pytest.mark.parametrize("command", [("serve", "--port", 0), ("jobs",)])
def test_a_file_that_is_no_database_ends_in_words(octa, tmp_path, command):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "octa.sqlite3").write_bytes(b"what a disk left of it" * 100)
    refused(octa(*command, "--data-dir", "broken"), "octa.sqlite3: file is not a database")
    assert [path.name for path in (tmp_path / "broken").glob("server*")] == []


def test_a_folder_that_another_server_holds_is_refused_in_words(octa, tmp_path):
    mark = json.dumps(asdict(ProcessMark.of(os.getppid())))
    (tmp_path / "server.json").write_text(mark)
    refused(octa("serve", "--port", 0, "--data-dir", "."), f"process {os.getppid()} already serves")
    assert (tmp_path / "server.json").read_text() == mark
