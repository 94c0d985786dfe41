from __future__ import annotations

import json
import zipfile

import pytest

from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.service.export_service import export_archive, export_files
from tests.exports import FakeExporter


def write_model(folder, **card):
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    if "members" not in card:
        (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def test_a_model_is_handed_out_as_its_graph_what_it_expects_and_its_card(tmp_path):
    model = write_model(tmp_path / "m1", network="unet")
    files = export_files(FakeExporter(), model, "onnx")
    assert set(files) == {"card.json", "export.json", "model.onnx"}
    assert files["model.onnx"].read_text("utf-8") == "graph of m1"


def test_an_ensemble_is_handed_out_with_a_folder_for_each_member(tmp_path):
    members = [write_model(tmp_path / name, network="unet") for name in ("a", "b")]
    model = write_model(tmp_path / "both", members=[{"folder": member.name} for member in members])
    files = export_files(FakeExporter(), model, "torch")
    assert set(files) == {"card.json", "a/export.json", "a/model.pt2", "b/export.json", "b/model.pt2"}
    (members[1] / "weights.safetensors").unlink()
    with pytest.raises(IncompatibleCheckpoint, match="which is not there"):
        export_files(FakeExporter(), model, "torch")


def test_the_archive_is_made_once_and_holds_the_files(tmp_path):
    model, exporter = write_model(tmp_path / "m1", network="unet"), FakeExporter()
    path = export_archive(exporter, model, "openvino")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["card.json", "export.json", "model.xml"]
        assert archive.read("model.xml") == b"graph of m1"
    made = path.stat().st_mtime_ns
    assert export_archive(exporter, model, "openvino").stat().st_mtime_ns == made
    assert exporter.made == ["m1"]
    assert sorted(one.suffix for one in (model / "exports").iterdir() if one.is_file()) == [".zip"]
