"""Exports by real processes: seconds each."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from octa_backend.errors import ExportFailed
from octa_backend.inference import export_formats
from octa_backend.inference.agreement import mask_agreement
from octa_backend.inference.export_record import export_folder, find_export, find_failure
from octa_backend.inference.predictor import open_predictor
from octa_backend.inference.torch_engine import TorchEngine, load_network
from octa_backend.models import registry
from octa_backend.service import export_child
from octa_backend.service import exporter as exporter_module
from octa_backend.service.exporter import Exporter
from octa_backend.training.checkpoint import save_weights
from tests.exports import a_record
from tests.fakes import wait_for
from tests.tiny import one_thread, synthetic_pairs, write_store

CARD = {
    "network": "tiny_unet",
    "channels": 1,
    "classes": 2,
    "dataset": {"file_id": "f1"},
    "splits": {"train": ["s0", "s1"], "val": ["s2"], "test": []},
}


def write_model(folder):
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_weights(registry.build("tiny_unet", 1, 1), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps(CARD), "utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A `tiny_unet` of random weights beside a dataset of three scans."""
    root = tmp_path_factory.mktemp("exports")
    write_store(root / "datasets" / "f1", synthetic_pairs(3, size=64))
    with one_thread():
        yield write_model(root / "models" / "m1")


def files_alone(function):
    """A function of `torch.export` without paths: on Windows C++ reads them in the code page, and finds no `张三`."""

    def call(*given):
        assert not any(isinstance(one, str | os.PathLike) for one in given)
        return function(*given)

    return call


@pytest.mark.slow
def test_a_program_of_torch_is_written_and_read_below_a_folder_of_any_letters(tmp_path, monkeypatch):
    program = torch.export.export(torch.nn.ReLU(), (torch.rand(1, 1, 8, 8),))
    record = a_record(tmp_path / "张三", "torch")
    record.folder.mkdir()
    for name in ("save", "load"):
        monkeypatch.setattr(torch.export, name, files_alone(getattr(torch.export, name)))
    export_formats.write_graph(export_formats.TracedModel(program, 4, 8, list), "torch", record.folder)
    engine = export_formats.load_graph(record, "fp32")
    assert torch.equal(engine(-torch.ones(1, 1, 8, 8)), torch.zeros(1, 1, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["openvino", "onnx", "torch"])
def test_an_export_gives_torchs_masks_for_scans_of_any_size_and_number(model, wanted):
    record = Exporter().ensure(model, wanted)
    assert (record.checked_on, record.agreement["fp32"]) == ("validation", 1.0)
    assert record.opset == (export_formats.OPSET if wanted == "onnx" else None)
    engine = export_formats.load_graph(record, "fp32")
    reference = TorchEngine(load_network(model, CARD))
    scans = [torch.rand(batch, 1, *sides) for batch, sides in ((1, (64, 64)), (3, (37, 90)), (1, (1, 1)), (2, (8, 12)))]
    assert mask_agreement(engine, reference, scans[:2]) > 0.999
    assert [tuple(engine(x).shape) for x in scans] == [tuple(x.shape) for x in scans]
    made = record.graph.stat().st_mtime_ns
    assert Exporter().ensure(model, wanted).graph.stat().st_mtime_ns == made


@pytest.mark.slow
def test_predictions_are_computed_with_openvino_once_the_graph_is_there(model):
    image = synthetic_pairs(1, size=64)[0][0]
    Exporter().ensure(model, "openvino")
    quick, plain = (open_predictor(model, "cpu", engine) for engine in ("auto", "torch"))
    assert (quick.engine.split()[0], plain.engine.split()[0]) == ("openvino", "torch")
    found, expected = quick.predict(image, tta=True), plain.predict(image, tta=True)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-2)
    assert (found.mask == expected.mask).mean() >= 0.999


@pytest.mark.slow
def test_two_processes_that_export_the_same_model_at_once_both_succeed(model):
    twin = write_model(model.with_name("m2"))
    command = [sys.executable, "-m", "octa_backend.service.export_child", str(twin), "torch", "0"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(240) for process in both] == [0, 0]
    assert find_export(twin, "torch") is not None
    assert [path.name for path in (twin / "exports").iterdir()] == [export_folder(twin, "torch").name]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="NNCF (the extra int8) is not installed")
def test_integers_give_nearly_torchs_masks(model):
    record = Exporter().ensure(model, "openvino-int8")
    assert record.agreement["int8"] >= 0.99
    assert open_predictor(model, "cpu", "openvino-int8").engine == "openvino int8"


@pytest.mark.skipif(importlib.util.find_spec("nncf") is not None, reason="NNCF is installed")
def test_integers_without_their_library_are_refused_with_what_to_install_and_torch_answers(model, caplog):
    with pytest.raises(ExportFailed, match=r"octa-backend\[int8\]"):
        Exporter().ensure(model, "openvino-int8")
    assert "octa-backend[int8]" in (find_failure(model, "openvino-int8") or "")
    assert "cannot be exported as openvino-int8" in caplog.text
    assert open_predictor(model, "cpu", "openvino-int8").engine.split()[0] == "torch"


def test_a_reason_that_is_known_is_given_without_trying_again(model, monkeypatch):
    twin = write_model(model.with_name("m3"))
    (twin / "weights.safetensors").write_bytes(b"no weights")
    exporter = Exporter()
    with pytest.raises(ExportFailed) as first:
        exporter.ensure(twin, "torch")
    monkeypatch.setattr(exporter, "_make", lambda *_: pytest.fail("it was tried again"))
    with pytest.raises(ExportFailed) as second:
        exporter.ensure(twin, "torch")
    assert second.value.message == first.value.message
    assert find_export(twin, "torch") is None


def test_an_export_that_is_stopped_leaves_nothing_and_may_be_asked_for_again(model):
    twin = write_model(model.with_name("m4"))
    exporter, raised = Exporter(), []

    def ask():
        with pytest.raises(ExportFailed) as found:
            exporter.ensure(twin, "torch")
        raised.append(found.value.message)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for("the process", lambda: exporter._process)
    exporter.stop(model)  # not the one that is being exported
    assert exporter._process is not None
    exporter.stop(twin)
    asking.join(20)
    assert "ask again" in raised[0]
    assert find_failure(twin, "torch") is None


def test_an_export_that_takes_too_long_is_given_up_for_good(model, monkeypatch):
    twin = write_model(model.with_name("m6"))
    monkeypatch.setattr(exporter_module, "EXPORT_SECONDS", 0.0)
    with pytest.raises(ExportFailed, match="took longer than 0 s"):
        Exporter().ensure(twin, "torch")
    assert find_failure(twin, "torch") == "the export took longer than 0 s"


def test_an_exporter_that_is_closed_starts_nothing(model):
    twin = write_model(model.with_name("m7"))
    exporter = Exporter()
    exporter.close()
    with pytest.raises(ExportFailed, match="the server ends"):
        exporter.ensure(twin, "torch")
    assert find_failure(twin, "torch") is None


def test_a_graph_with_other_masks_than_torch_is_not_kept(model, monkeypatch):
    twin = write_model(model.with_name("m5"))
    monkeypatch.setattr(export_child, "trace", lambda *_: None)
    monkeypatch.setattr(export_child, "write_graph", lambda traced, wanted, folder: None)
    monkeypatch.setattr(export_child, "load_graph", lambda record, arithmetic: torch.randn_like)
    with pytest.raises(ExportFailed, match=r"of 1 validation scans have torch's class; 99\.9% are needed"):
        export_child.make_export(twin, "onnx")
    assert list((twin / "exports").iterdir()) == []
