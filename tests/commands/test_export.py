from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.commands import export as export_command
from octa_backend.commands.shelf_cli import ExportChoice
from octa_backend.errors import ModelNotFound
from octa_backend.inference.export_record import FORMATS
from octa_backend.settings import Settings
from tests.exports import FakeExporter


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A published model in a data folder, and an exporter that writes a line instead of a graph."""
    monkeypatch.setattr(export_command, "Exporter", FakeExporter)
    folder = tmp_path / "data" / "models" / "m1"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"network": "unet"}), "utf-8")
    (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def test_the_command_offers_every_format():
    assert {choice.value for choice in ExportChoice} == set(FORMATS)


@pytest.mark.parametrize("name", ["m1", "its folder"])
def test_a_model_is_copied_out_with_what_was_found_of_it(model, tmp_path, name):
    out, shown = tmp_path / "out" / "deep", io.StringIO()
    settings = Settings(data_dir=tmp_path / "data")
    given = name if name == "m1" else str(model)
    export_command.export(Console(file=shown, width=200), settings, given, "onnx", out)
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "export.json", "model.onnx"]
    assert "pixels with torch's class on synthetic scans: 100.0000% in fp32" in shown.getvalue()


def test_a_model_that_is_not_there_is_named(model, tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    with pytest.raises(ModelNotFound, match="'m2' is neither"):
        export_command.export(Console(), settings, "m2", "onnx", tmp_path / "out")


def test_the_command_line_passes_format_and_folder_on(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["export", "m1", "--format", "torch", "-o", "there", "--data-dir", "data"])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "there" / "model.pt2").read_text("utf-8") == "graph of m1"
    wrong = CliRunner().invoke(app, ["export", "m1", "--format", "keras"])
    assert wrong.exit_code == 2
