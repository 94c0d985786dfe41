from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from octa_backend.inference.engines import export_wanted, open_engine, usable_arithmetic
from octa_backend.inference.export_record import (
    FORMATS,
    export_folder,
    find_export,
    find_failure,
    note_failure,
)
from octa_backend.inference.graph import TracedAttention, multiple_of, replace_attention, trace
from octa_backend.models import registry
from octa_backend.models.base import pad_sides
from octa_backend.models.network_shape import NetworkShape
from octa_backend.training import precision
from octa_backend.training.checkpoint import save_weights
from tests.exports import a_record, keep
from tests.tiny import SLOW_CPU, SmallUNet, one_thread, tiny_networks


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("octa_backend.inference.engines.probe", lambda device: SLOW_CPU)
        yield


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_weights(SmallUNet(1, 1), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": "small_unet", "channels": 1, "classes": 2}), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("device", "wanted", "expected"),
    [
        ("cpu", "auto", "openvino"),
        ("cpu", "openvino-int8", "openvino-int8"),
        ("cpu", "torch", None),
        ("cuda", "auto", None),
        ("cuda", "openvino-int8", None),
    ],
)
def test_a_processor_computes_with_openvino_unless_torch_is_asked_for(device, wanted, expected):
    assert export_wanted(device, wanted) == expected


def test_a_model_without_an_export_is_computed_with_torch(model):
    engine = open_engine(model, json.loads((model / "card.json").read_text()), torch.device("cpu"))
    assert engine.name == "torch fp32"
    assert engine(torch.rand(2, 1, 17, 30)).shape == (2, 1, 17, 30)


def test_an_export_that_was_not_checked_in_this_processors_arithmetic_is_not_used(model, caplog):
    keep(a_record(export_folder(model, "openvino"), agreement={"fp16": 1.0}))
    engine = open_engine(model, json.loads((model / "card.json").read_text()), torch.device("cpu"))
    assert engine.name == "torch fp32"
    assert "plain torch answers" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "agreement", "expected"),
    [
        ("openvino", {"bf16": 0.9995, "fp32": 1.0}, "bf16"),
        ("openvino", {"bf16": 0.9985, "fp32": 1.0}, "fp32"),
        ("openvino", {"bf16": 0.9985, "fp32": 0.9989}, None),
        ("openvino-int8", {"int8": 0.9985}, "int8"),
        ("openvino-int8", {"int8": 0.9885}, None),
    ],
)
def test_the_fastest_arithmetic_that_gives_torchs_masks_is_used(tmp_path, wanted, agreement, expected):
    record = a_record(tmp_path, wanted, agreement=agreement)
    assert usable_arithmetic(record, ("int8", "bf16", "fp32")) == expected


@pytest.mark.parametrize("wanted", FORMATS)
def test_a_record_is_read_back_as_it_was_written(model, wanted):
    assert find_export(model, wanted) is None
    record = keep(a_record(export_folder(model, wanted), wanted))
    assert find_export(model, wanted) == record
    assert record.graph.parent == record.folder


def test_a_reason_is_kept_for_its_format_and_its_versions_alone(model, monkeypatch):
    note_failure(model, "openvino", "为什么")
    assert find_failure(model, "openvino") == "为什么"
    assert find_failure(model, "onnx") is None
    monkeypatch.setattr("octa_backend.inference.export_record._version", lambda library: "99")
    assert find_failure(model, "openvino") is None


@pytest.mark.parametrize(("sides", "expected"), [((5, 8), (8, 8)), ((1, 13), (8, 16)), ((8, 12), (8, 12))])
def test_sides_are_padded_with_the_border_to_what_a_graph_takes(sides, expected):
    scan = torch.rand(2, 3, *sides)
    padded = pad_sides(scan, 4, 8)
    assert padded.shape == (2, 3, *expected)
    assert torch.equal(padded[:, :, : sides[0], : sides[1]], scan)
    assert torch.equal(padded[:, :, -1, -1], scan[:, :, -1, -1])


@pytest.mark.parametrize("batch", [1, 3])
def test_the_attention_that_is_traced_computes_what_torchs_own_does(batch):
    torch.manual_seed(0)
    original = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x_BND = torch.rand(batch, 7, 16)
    expected = original(x_BND, x_BND, x_BND, need_weights=False)[0]
    network = nn.Sequential(nn.Identity(), original)
    replace_attention(network)
    assert isinstance(network[1], TracedAttention)
    torch.testing.assert_close(network[1](x_BND, x_BND, x_BND)[0], expected)


def test_the_arithmetic_of_torch_is_measured_once_the_engine_needs_it(model, monkeypatch):
    fast = precision.Hardware("cpu", bf16_speedup=2.0, channels_last=False)
    monkeypatch.setattr("octa_backend.inference.engines.probe", lambda device: fast)
    engine = open_engine(model, json.loads((model / "card.json").read_text()), torch.device("cpu"), "torch")
    assert engine.name == "torch bf16"


def test_a_network_with_one_multiple_for_each_axis_is_traced_and_padded_as_it_pads_itself():
    torch.manual_seed(0)
    shape = NetworkShape(((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (4, 8, 16))
    network = registry.build("unet3d", 1, 2, 3, shape=shape).eval()
    assert multiple_of(network) == (2, 4, 4)
    scan = torch.rand(1, 1, 6, 13, 16)
    padded = pad_sides(scan, (2, 4, 4), (4, 8, 8))
    assert padded.shape == (1, 1, 6, 16, 16)
    graph = trace(copy.deepcopy(network), 1, 3).module()
    with torch.no_grad():
        torch.testing.assert_close(graph(padded)[..., :13, :], network(scan))


def test_axes_of_one_multiple_have_one_number():
    assert multiple_of(registry.build("tiny_unet", 1, 1)) == registry.build("tiny_unet", 1, 1).multiple
    shape = NetworkShape(((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)), (4, 8, 16))
    assert multiple_of(registry.build("unet3d", 1, 2, 3, shape=shape)) == 4
