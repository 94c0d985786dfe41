"""`octa train` as its users type it: folders, script options, going on, scoring, pretrained weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import write_zip
from octa_backend.service import experiment
from octa_backend.training import precision
from octa_backend.training.checkpoint import Checkpoints
from tests.tiny import SLOW_CPU, one_thread

UNTRIED = ("--start-checks", "false")
"""What is tried before the first step takes seconds, and is tested elsewhere."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A folder of six small scans, two of them in an official test split."""
    root = tmp_path_factory.mktemp("scans")
    write_zip(root / "scans.zip", 6, size=32, seed=1)
    with zipfile.ZipFile(root / "scans.zip") as archive:
        archive.extractall(root / "all")
    names = sorted(path.stem for path in (root / "all" / "images").iterdir())
    for number, name in enumerate(names):
        split = "test" if number < 2 else "train"
        for kind in ("images", "masks"):
            target = root / "scans" / split / kind
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / "all" / kind / f"{name}.png", target / f"{name}.png")
    return root / "scans"


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch):
    for module in (experiment, precision):
        monkeypatch.setattr(module, "probe", lambda device: SLOW_CPU)
    monkeypatch.setattr("octa_backend.commands.script_options.probe", lambda device: SLOW_CPU)
    with one_thread():
        yield


@pytest.fixture
def octa(tmp_path, monkeypatch):
    """Run `octa train` in an empty folder on the CPU; returns its result, with all that was printed in `output`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    runner = CliRunner()
    interrupt = signal.getsignal(signal.SIGINT)
    yield lambda *arguments: runner.invoke(app, ["train", "--device", "cpu", *UNTRIED, *map(str, arguments)])
    signal.signal(signal.SIGINT, interrupt)


def did(result, *phrases):
    assert result.exit_code == 0, (result.output, result.exception)
    for phrase in phrases:
        assert phrase in result.output
    return result.output


def refused(result, *phrases):
    assert result.exit_code == 2, (result.output, result.exception)
    for phrase in phrases:
        assert phrase in " ".join(result.output.split())


def kept(folder):
    return json.loads((folder / "plan.json").read_text("utf-8"))


TINY = ("--model", "tiny_unet", "--batch-size", 2, "--augmentation", "none", "--tensorboard", "false")
SCRIPT = (
    *("--optimizer", "adamw", "--scheduler", "cosine", "--focal-loss", "--gradient-clipping", 1.0),
    *("--accumulation-steps", 4, "--loss-weights", 1.0, 2.0, "--amp"),
)


# --- the three commands ----------------------------------------------------------------------------------------------


def test_a_script_s_three_commands_train_go_on_and_score(octa, scans, tmp_path):
    train = ("--data-dir", scans, "--output-dir", "OUT", *SCRIPT, *TINY, "--epochs", 1)
    printed = did(octa(*train), "epoch 1: train loss", "all epochs done", "test Dice", "fp32")
    assert "--amp: arithmetic in 16 bits does not pay on this device" in printed
    config = kept(tmp_path / "OUT")["config"]
    expected = {"optimizer": "adamw", "scheduler": "cosine", "loss": "focal_dice", "gradient_clipping": 1.0}
    expected |= {"accumulation_steps": 4, "focal_weight": 1.0, "dice_weight": 2.0}
    assert {name: config[name] for name in expected} == expected

    printed = did(octa("--resume", "OUT/latest", "--epochs", 2, "--lr", 0.0005), "epoch 2: train loss")
    assert "lr 0.001" in printed.partition("epoch 2")[0]
    assert kept(tmp_path / "OUT")["config"] == {**config, "epochs": 2, "lr": 0.0005}
    assert Checkpoints(tmp_path / "OUT" / "checkpoints").last == 2

    card = json.loads(max((tmp_path / "OUT").glob("model-e*/card.json")).read_text("utf-8"))
    printed = did(octa("--data-dir", scans, "--output-dir", "OUT", "--test-only"), "test scans: 2")
    assert f"test dice: {card['test']['dice']:.4f} ± {card['test']['dice_std']:.4f}" in printed
    assert "epoch 3" not in printed


def test_names_of_options_may_be_spelt_with_underscores(octa, scans, tmp_path):
    options = ("--data_dir", scans, "--output_dir", "OUT", "--batch_size", 2, "--loss_weights", 0.3, 0.7)
    did(octa(*options, "--accumulation_steps=2", "--model", "tiny_unet", "--epochs", 1, "--tensorboard_images", 0))
    config = kept(tmp_path / "OUT")["config"]
    assert [config[name] for name in ("bce_weight", "dice_weight", "accumulation_steps")] == [0.3, 0.7, 2]
    assert sorted(path.name for path in (tmp_path / "OUT" / "tensorboard").iterdir()) == ["epochs", "scans", "steps"]


def test_the_command_itself_trains_on_a_folder(scans, tmp_path):
    command = [sys.executable, "-m", "octa_backend.cli", "train", "--data-dir", str(scans), "--output-dir", "OUT"]
    options = [str(option) for option in (*SCRIPT, *TINY, "--epochs", 1, "--device", "cpu")]
    ours = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *options, *UNTRIED],
        cwd=tmp_path,
        env=os.environ | ours,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 1: train loss" in done.stdout
    assert "\x1b" not in done.stdout
    assert (tmp_path / "OUT" / "model-e1" / "card.json").exists()


# --- folders ---------------------------------------------------------------------------------------------------------


def test_the_same_folder_elsewhere_goes_on_and_another_one_is_refused(octa, scans, tmp_path):
    did(octa("--data-dir", scans, "--out", "OUT", *TINY, "--epochs", 1))
    shutil.copytree(scans, tmp_path / "copy")
    did(octa("--data-dir", "copy", "--out", "OUT", *TINY, "--epochs", 2), "epoch 2: train loss")
    next((tmp_path / "copy" / "train" / "images").iterdir()).unlink()
    refused(octa("--data-dir", "copy", "--out", "OUT", *TINY), "OUT holds a training of other scans")


def test_an_output_folder_among_the_scans_is_refused(octa, scans):
    refused(octa("--data-dir", scans, "--out", scans / "train" / "out"), "lies in the folder of the scans")
    assert not (scans / "train" / "out").exists()


def test_an_output_folder_that_cannot_be_one_is_refused_in_words(octa, scans, tmp_path):
    (tmp_path / "OUT").write_text("mine")
    refused(octa("--data-dir", scans, "--out", "OUT"), "OUT cannot be a folder for results: OUT is a file")
    assert (tmp_path / "OUT").read_text() == "mine"


@pytest.mark.parametrize("marked", [False, True])
def test_a_folder_of_the_user_that_is_called_dataset_is_left_alone(octa, scans, tmp_path, marked):
    (tmp_path / "OUT" / "dataset").mkdir(parents=True)
    (tmp_path / "OUT" / "dataset" / "notes.txt").write_text("mine")
    if marked:  # by a training that was refused
        (tmp_path / "OUT" / "dataset.sha256").write_text("a" * 64)
    phrase = f"{Path('OUT') / 'dataset'} is there already and is not of a training; choose another folder with --out"
    refused(octa("--data-dir", scans, "--out", "OUT", *TINY), phrase)
    assert [path.name for path in (tmp_path / "OUT" / "dataset").iterdir()] == ["notes.txt"]


def test_a_folder_in_which_no_training_was_begun_takes_other_scans(octa, scans, tmp_path):
    weights = ("--loss", "weighted_ce", "--class-weights", "1,2,3")
    assert octa("--data-dir", scans, "--out", "OUT", *TINY, *weights).exit_code == 2
    shutil.copytree(scans, tmp_path / "copy")
    next((tmp_path / "copy" / "train" / "images").iterdir()).unlink()
    did(octa("--data-dir", "copy", "--out", "OUT", *TINY, "--epochs", 1, "--force"), "all epochs done")
    names = [scan.name for scan in DatasetStore(tmp_path / "OUT" / "dataset").manifest.scans]
    assert len(names) == 5


def test_errors_in_the_data_are_answered_by_options_of_the_command_and_marked_by_their_severity(octa, scans, tmp_path):
    shutil.copytree(scans, tmp_path / "copy")
    first = min((tmp_path / "copy" / "train" / "masks").iterdir())
    Image.open(first).resize((16, 48)).save(first)
    result = octa("--data-dir", "copy", "--out", "OUT", *TINY)
    refused(result, "--repair has safe remedies applied, --force trains all the same")
    assert "repair=auto" not in result.output
    lines = [line.strip() for line in result.output.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == ["❌", "❌", "⚠️"]


def test_a_repair_is_refused_where_the_scans_were_taken_in_without_one(octa, scans):
    begin = ("--data-dir", scans, *TINY, "--epochs", 1)
    did(octa(*begin, "--out", "AS_THEY_ARE"))
    for again in ((*begin, "--out", "AS_THEY_ARE"), ("--resume", "AS_THEY_ARE")):
        refused(octa(*again, "--repair"), "AS_THEY_ARE were taken in without --repair; leave it out to go on")
    did(octa(*begin, "--out", "REPAIRED", "--repair"))
    did(octa(*begin, "--out", "REPAIRED", "--repair"), "all epochs done")


# --- what contradicts itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("--focal-loss", "--loss", "dice"), "--focal-loss and --loss dice contradict each other"),
        (("--amp", "--precision", "fp32"), "--amp computes in 16 bits and --precision fp32 does not"),
        (("--loss-weights", 1, 2, "--loss", "iou"), "--loss-weights needs a loss of two components: dice_bce, dice_ce"),
        (("--loss-weights", 1, 2, "--loss", "cldice"), "add up to 1"),
        (("--loss-weights", 1, 2, "--dice-weight", 3), "--loss-weights and --dice-weight set the same"),
        (("--loss-weights", 1, -2), "dice_weight=-2.0: Input should be greater than or equal to 0"),
        (("--loss-weights", 1), "--loss-weights"),
        (("--test-only", "--find-lr"), "--resume, --test-only and --find-lr do different things"),
        (("--resume", "OUT", "--test-only"), "--resume, --test-only and --find-lr do different things"),
        (("--data-dir", "missing"), "does not exist"),
    ],
)
def test_options_that_contradict_each_other_are_refused_in_words(octa, scans, tmp_path, arguments, phrase):
    refused(octa("--data-dir", scans, "--out", "OUT", *arguments), phrase)
    assert not (tmp_path / "OUT").exists()


def test_a_training_without_scans_or_with_two_kinds_of_them_is_refused(octa, scans):
    refused(octa("--out", "OUT"), "name the scans: octa train DATA.zip, or octa train --data-dir FOLDER")
    refused(octa(scans.parent / "scans.zip", "--data-dir", scans), "the scans are named twice")


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    """A folder with a training of two epochs, of which both checkpoints are kept."""
    out = tmp_path_factory.mktemp("trained") / "OUT"
    options = ("--data-dir", scans, "--out", out, *TINY, "--device", "cpu", *UNTRIED, "--epochs", 2, "--keep-last", 2)
    interrupt = signal.getsignal(signal.SIGINT)
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "probe", lambda device: SLOW_CPU)
        done = CliRunner().invoke(app, ["train", *map(str, options)])
    signal.signal(signal.SIGINT, interrupt)
    assert done.exit_code == 0, (done.output, done.exception)
    return out


@pytest.mark.parametrize(
    "name", [".", "latest", "checkpoints", "checkpoints/last-00002", "checkpoints/last-00002/state.pt"]
)
def test_a_training_goes_on_by_whatever_names_it(octa, trained, tmp_path, name):
    out = tmp_path / "OUT"
    shutil.copytree(trained, out)
    did(octa("--resume", out / name, "--epochs", 3), "epoch 3: train loss")
    assert kept(out)["config"] == {**kept(trained)["config"], "epochs": 3}
    card = json.loads(max(out.glob("model-e*/card.json")).read_text("utf-8"))
    assert card["dataset"]["name"] == "scans"


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("checkpoints/last-00001", "goes on from its last checkpoint, last-00002, not from last-00001"),
        ("nothing", "is not there; name a training's folder, latest in it, or its last checkpoint"),
        ("../latest", "is no training's folder and in none"),
    ],
)
def test_what_names_no_last_checkpoint_is_refused_in_words(octa, trained, name, phrase):
    refused(octa("--resume", trained / name), phrase)


def test_another_output_folder_than_that_of_the_training_is_refused(octa, trained):
    refused(octa("--resume", trained, "--out", "ELSE"), "not in ELSE; leave out --out")


def test_the_training_s_own_changes_by_remedies_stay_when_it_goes_on(octa, scans, tmp_path):
    common = ("--tensorboard", "false", "--augmentation", "none")
    did(octa("--data-dir", scans, "--out", "OUT", *common, "--epochs", 1, "--model", "tiny_unet"))
    noted = {**kept(tmp_path / "OUT"), "config_changes": {"model": "tiny_unet"}}
    (tmp_path / "OUT" / "plan.json").write_text(json.dumps(noted), "utf-8")
    did(octa("--resume", "OUT", "--epochs", 2), "model = tiny_unet: set by a remedy")
    assert kept(tmp_path / "OUT")["config_changes"] == {"model": "tiny_unet"}


# --- folds -----------------------------------------------------------------------------------------------------------

FOLDS = (*TINY, "--epochs", 1, "--folds", 2)


def test_folds_of_a_folder_begin_with_the_same_weights_and_go_on_by_resume(octa, scans, trained, tmp_path):
    model = min(trained.glob("model-e*"))
    printed = did(octa("--data-dir", scans, "--out", "OUT", *FOLDS, "--pretrained", model), "out-of-fold Dice")
    assert printed.count(f"begin as those of {model} (pretrained)") == 2
    assert [kept(tmp_path / "OUT" / f"fold-{n}-of-2")["config"]["folds"] for n in (1, 2)] == [2, 2]
    assert not (tmp_path / "OUT" / "plan.json").exists()

    printed = did(octa("--resume", "OUT/fold-1-of-2", "--epochs", 2), "fold 2 of 2", "out-of-fold Dice")
    assert printed.count("epoch 2: train loss") == 2
    assert "pretrained)" not in printed
    assert [Checkpoints(tmp_path / "OUT" / f"fold-{n}-of-2" / "checkpoints").last for n in (1, 2)] == [2, 2]

    [ensemble] = [path.name for path in (tmp_path / "OUT").glob("ensemble-*") if path.name in printed]
    printed = did(octa("--out", "OUT", "--test-only"), f"model: {ensemble}", "test scans: 2")
    card = json.loads((tmp_path / "OUT" / ensemble / "card.json").read_text("utf-8"))
    assert f"test dice: {card['test']['dice']:.4f} ± {card['test']['dice_std']:.4f}" in printed


def test_folds_that_are_not_all_trained_have_no_score_and_go_on_at_their_last_checkpoint(octa, scans, tmp_path):
    did(octa("--data-dir", scans, "--out", "OUT", *FOLDS))
    shutil.rmtree(tmp_path / "OUT" / "fold-2-of-2")
    refused(octa("--out", "OUT", "--test-only"), "fold 2 of 2 in OUT is not trained to its end yet")
    best = tmp_path / "OUT" / "fold-1-of-2" / "checkpoints" / "best-00001"
    refused(octa("--resume", best), "goes on from its last checkpoint, last-00001, not from best-00001")


# --- scoring ---------------------------------------------------------------------------------------------------------


def test_a_score_needs_a_training_with_the_same_options_and_a_test_split(octa, scans, trained, tmp_path):
    refused(octa("--data-dir", scans, "--out", "OUT", "--test-only"), "OUT holds no training")
    assert not (tmp_path / "OUT").exists()
    refused(octa("--out", trained, "--test-only", "--loss", "iou"), "as it was trained, with loss=auto")
    written = (trained / "report.json").stat().st_mtime_ns
    did(octa("--out", trained, "--test-only", *TINY), "test dice: ", "test recall: ", "report: ")
    assert (trained / "report.json").stat().st_mtime_ns == written
    write_zip(tmp_path / "plain.zip", 3, size=32, seed=2)
    did(octa("plain.zip", "--out", "PLAIN", *TINY, "--epochs", 1))
    refused(octa("--out", "PLAIN", "--test-only"), "the scans have no test split", "octa evaluate")


# --- pretrained ------------------------------------------------------------------------------------------------------


def test_a_training_begins_with_a_model_named_by_its_path_or_its_id(octa, scans, trained, tmp_path, monkeypatch):
    model = min(trained.glob("model-e*"))
    shutil.copytree(model, tmp_path / "store" / "models" / "theirs")
    monkeypatch.setenv("OCTA_DATA_DIR", str(tmp_path / "store"))
    common = ("--data-dir", scans, *TINY, "--epochs", 1)
    for number, name in enumerate((model, trained / "checkpoints" / "last-00002", "theirs")):
        did(octa(*common, "--out", f"OUT{number}", "--pretrained", name), f"begin as those of {name} (pretrained)")
    again = did(octa(*common[:-1], 2, "--out", "OUT2", "--pretrained", "theirs"), "epoch 2: train loss")
    assert "pretrained)" not in again


def test_weights_that_cannot_be_used_are_refused_in_words(octa, scans, tmp_path):
    common = ("--data-dir", scans, "--out", "OUT", *TINY, "--epochs", 1)
    refused(octa(*common, "--pretrained", "nope"), "pretrained=nope: there is no such model, file or folder")
    (tmp_path / "text.pt").write_text("weights")
    refused(octa(*common, "--pretrained", "text.pt"), "is not a checkpoint that can be read safely")
    torch.save({"stem": torch.zeros(2)}, tmp_path / "other.pt")
    refused(octa(*common, "--pretrained", "other.pt"), "none of its 1 tensors has the name and the shape")
