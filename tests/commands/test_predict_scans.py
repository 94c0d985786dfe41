from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from rich.console import Console

from octa_backend.commands import predict as predict_command
from octa_backend.errors import InvalidArchive, UnreadableScan
from octa_backend.inference.scale import MeasureOptions
from octa_backend.models import registry
from octa_backend.service.predict_service import PredictOptions
from octa_backend.settings import Settings
from octa_backend.training import precision
from octa_backend.training.checkpoint import save_weights
from tests.data.zips import encoded, grey, zip_of
from tests.predicting import CARD
from tests.tiny import SLOW_CPU, one_thread


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Predict with a model of random weights; returns what was printed."""
    monkeypatch.setattr(precision, "probe", lambda device: SLOW_CPU)
    folder = tmp_path / "model"
    folder.mkdir()
    torch.manual_seed(0)
    save_weights(registry.build("tiny_unet", 1, 1), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps(CARD), "utf-8")

    def predict(*images, **options):
        shown = io.StringIO()
        found = PredictOptions(**{"measuring": MeasureOptions(), **options})
        settings = Settings(data_dir=tmp_path / "data", device="cpu", engine="torch")
        console = Console(file=shown, width=300)
        predict_command.predict(console, settings, [str(folder)], images, [], tmp_path / "out", found)
        return shown.getvalue()

    with one_thread():
        yield predict


def written(tmp_path):
    out = tmp_path / "out"
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_predicted_with_all_folders_in_it(run, tmp_path):
    for name in ("1.png", "right/1.png"):
        (tmp_path / "scans" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "scans" / name).write_bytes(encoded(grey(1)))
    (tmp_path / "scans" / "notes.txt").write_bytes(b"x")
    (tmp_path / "scans" / "right" / "broken.png").write_bytes(b"x")
    shown = run(tmp_path / "scans")
    pictures = [f"{name}_{kind}.png" for name in ("1", "right/1") for kind in ("mask", "overlay")]
    assert written(tmp_path) == sorted([*pictures, "errors.csv", "measurements.csv"])
    assert {row["scan"] for row in rows(tmp_path / "out" / "measurements.csv")} == {"1.png", "right/1.png"}
    errors = rows(tmp_path / "out" / "errors.csv")
    assert [row["scan"] for row in errors] == ["right/broken.png"]
    assert "is not a PNG" in errors[0]["reason"]
    assert "right/broken.png: left out:" in shown
    assert "1 scans could not be read" in shown
    (tmp_path / "scans" / "right" / "broken.png").write_bytes(encoded(grey(1)))
    run(tmp_path / "scans")
    assert "errors.csv" not in written(tmp_path)
    (tmp_path / "out" / "errors.csv").write_text("my own notes\n")
    run(tmp_path / "scans")
    assert (tmp_path / "out" / "errors.csv").read_text() == "my own notes\n"


def test_a_zip_and_scans_of_the_same_names_are_predicted_together(run, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "eye.png").write_bytes(encoded(grey(1)))
    zipped = zip_of(tmp_path / "scans.zip", {"eye.png": encoded(grey(2))})
    run(tmp_path / "a" / "eye.png", tmp_path / "b" / "eye.png", zipped, measuring=None)
    names = ("eye", "eye_2", "eye_3")
    assert written(tmp_path) == sorted(f"{name}_{kind}.png" for name in names for kind in ("mask", "overlay"))


def test_a_scan_that_is_named_must_be_one(run, tmp_path):
    (tmp_path / "scan.png").write_bytes(b"x")
    with pytest.raises(UnreadableScan, match=r"scan\.png is not a PNG"):
        run(tmp_path / "scan.png")


def test_a_folder_in_which_no_scan_can_be_read_is_refused(run, tmp_path):
    zipped = zip_of(tmp_path / "scans.zip", {"1.png": b"x", "2.png": b"y"})
    with pytest.raises(UnreadableScan, match=r"none of 2 scans could be read; 1\.png is not a PNG"):
        run(zipped)


def test_a_folder_without_images_is_refused_before_anything_is_written(run, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "notes.txt").write_bytes(b"x")
    with pytest.raises(InvalidArchive, match="but no image"):
        run(tmp_path / "scans")
    assert not (tmp_path / "out").exists()
