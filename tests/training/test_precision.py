from __future__ import annotations

import pytest
import torch

from octa_backend.errors import DeviceUnavailable
from octa_backend.training.precision import (
    WORTH_IT,
    Hardware,
    autocast,
    gradient_scaler,
    memory_format,
    pick_device,
    probe,
)


def test_cpu_can_always_be_picked():
    assert pick_device("cpu") == torch.device("cpu")


def test_auto_is_cuda_where_there_is_one_else_the_cpu():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("wanted", ["gpu", "", "cuda:x", "cpu:cpu", "cpu:3", "mps", "xpu", "meta"])
def test_what_is_no_device_is_refused_with_the_words_that_are(wanted):
    with pytest.raises(DeviceUnavailable, match="auto, cpu, cuda or cuda:N") as caught:
        pick_device(wanted)
    assert repr(wanted) in caught.value.message


def test_gpu_that_is_not_there_is_refused_with_the_number_there_are(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.raises(DeviceUnavailable, match=f"has {torch.cuda.device_count()} CUDA devices"):
        pick_device("cuda:99")


def test_a_torch_without_cuda_is_said_to_be_one_whatever_the_machine_has(monkeypatch):
    """As the one that pip brings on Windows."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceUnavailable, match=r"'cuda' is not there; this torch was built without CUDA.*README"):
        pick_device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(DeviceUnavailable, match="'cuda' is not there"):
        pick_device("cuda")


def test_bf16_pays_from_a_clear_gain_on():
    assert not Hardware("cpu", 0.0, False).bf16_pays
    assert not Hardware("cpu", WORTH_IT - 0.01, False).bf16_pays
    assert Hardware("cpu", WORTH_IT, False).bf16_pays


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_network_computes_in_the_precision_asked_for(precision, dtype):
    with autocast("cpu", precision):
        assert torch.nn.Linear(2, 2)(torch.rand(1, 2)).dtype == dtype


@pytest.mark.parametrize(("precision", "scales"), [("fp32", False), ("bf16", False), ("fp16", True)])
def test_loss_is_scaled_up_for_fp16_alone(precision, scales):
    scaler = gradient_scaler("cpu", precision)
    assert scaler.is_enabled() is scales
    assert (scaler.scale(torch.tensor(1.0)).item() > 1) is scales


def test_memory_format_follows_the_number_of_axes():
    assert memory_format(False, 2) is memory_format(False, 3) is torch.contiguous_format
    assert memory_format(True, 2) is torch.channels_last
    assert memory_format(True, 3) is torch.channels_last_3d


def test_probe_measures_this_processor_once_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    found = probe(torch.device("cpu"))
    assert found.device == "cpu"
    assert 0 <= found.bf16_speedup < 100
    assert isinstance(found.channels_last, bool)
    assert probe(torch.device("cpu")) is found
    assert torch.equal(torch.get_rng_state(), state)
