from __future__ import annotations

import json
import threading

import pytest

from octa_backend.errors import ExportFailed, IncompatibleCheckpoint
from octa_backend.inference.export_record import find_export
from octa_backend.service import predict_service
from octa_backend.service.predict_service import PredictService
from octa_backend.settings import Settings
from octa_backend.storage.files import Files
from tests.exports import FakeExporter
from tests.fakes import wait_for


class FakePredictor:
    """Says what it computes with; counts the scans that it was given."""

    channels = 1

    def __init__(self, engine):
        self.engine = engine
        self.scans = []

    def predict(self, image):
        self.scans.append(image.shape)


def load_fake(folder, device, engine):
    if folder.name == "broken":
        raise IncompatibleCheckpoint("it is broken")
    exported = engine == "auto" and find_export(folder, "openvino")
    return FakePredictor("openvino fp32" if exported else "torch fp32")


class GatedExporter(FakeExporter):
    """Makes its exports when the test lets it."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()
        self.refusal = None

    def ensure(self, model, wanted):
        assert self.go_on.wait(20)
        if self.refusal:
            raise self.refusal
        return super().ensure(model, wanted)


@pytest.fixture
def gate():
    return GatedExporter()


@pytest.fixture
def started(tmp_path, monkeypatch, gate):
    """Start a service with these settings on a data folder with the models `m1`, `m2` and `broken`."""
    monkeypatch.setattr(predict_service, "load_predictor", load_fake)
    services = []

    def start(**settings):
        found = Settings(data_dir=tmp_path, device="cpu", **settings)
        files = Files.of(found)
        for name in ("m1", "m2", "broken"):
            files.model(name).mkdir(parents=True, exist_ok=True)
            (files.model(name) / "card.json").write_text(json.dumps({"network": "unet"}), "utf-8")
            (files.model(name) / "weights.safetensors").write_bytes(b"weights")
        service = PredictService(found, files)
        monkeypatch.setattr(service.exporter, "ensure", gate.ensure)
        services.append(service)
        return service

    yield start
    gate.go_on.set()
    for service in services:
        service.close()


def test_a_model_answers_with_torch_until_its_graph_is_made(started, gate):
    service = started()
    assert service.predictor("m1").engine == "torch fp32"
    gate.go_on.set()
    wait_for("the graph", lambda: service.predictor("m1").engine == "openvino fp32")
    assert gate.made == ["m1"]
    assert started().predictor("m1").engine == "openvino fp32"
    assert gate.made == ["m1"]


def test_a_model_that_cannot_be_exported_goes_on_with_torch_and_the_log_says_why(started, gate, caplog):
    gate.refusal = ExportFailed("there is no word for it")
    gate.go_on.set()
    service = started()
    first = service.predictor("m1")
    wait_for("the log", lambda: "m1 goes on with plain torch: there is no word for it" in caplog.text)
    assert service.predictor("m1") is first


def test_nothing_is_exported_where_torch_is_asked_for(started, gate):
    gate.go_on.set()
    service = started(engine="torch")
    assert service.predictor("m1").engine == "torch fp32"
    service.close()
    assert gate.made == []


def test_a_model_is_warm_when_it_is_loaded(started):
    assert started(engine="torch").predictor("m1").scans == [(1, 256, 256)]


def test_models_are_loaded_in_advance_and_a_broken_one_hinders_none(started, monkeypatch, caplog):
    service = started(engine="torch")
    assert service.is_warm
    service.warm(["broken", "m1"])
    wait_for("the models", lambda: service.is_warm)
    assert "broken could not be loaded in advance: it is broken" in caplog.text
    monkeypatch.setattr(predict_service, "load_predictor", lambda *_: pytest.fail("it was loaded before"))
    assert service.predictor("m1").engine == "torch fp32"


def test_a_model_that_was_deleted_is_no_longer_in_memory(started):
    service = started(engine="torch")
    first = service.predictor("m1")
    service.forget("m1")
    assert service.predictor("m1") is not first


def test_a_model_takes_at_least_the_memory_of_its_weights(started, monkeypatch, tmp_path):
    monkeypatch.setattr("octa_backend.training.memory.used_mib", lambda device: 0.0)
    service = started(engine="torch", models_memory_mib=64)
    for name in ("m1", "m2"):
        (tmp_path / "models" / name / "weights.safetensors").write_bytes(bytes(40 * 2**20))
    first = service.predictor("m1")
    service.predictor("m2")
    assert service.predictor("m1") is not first
