from __future__ import annotations

import pytest
import torch

from octa_backend.inference import cuda_engine
from octa_backend.inference.agreement import mask_agreement
from octa_backend.inference.torch_engine import TorchEngine
from octa_backend.models import registry

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def network():
    torch.manual_seed(0)
    return registry.build("tiny_unet", 1, 1).eval()


@pytest.fixture
def engine():
    return cuda_engine.CudaEngine(network(), "cuda:0", "fp32")


SHAPES = [(1, 1, 64, 64), (3, 1, 37, 50), (1, 1, 64, 64), (2, 1, 64, 64)]


def test_graphs_give_torchs_masks_for_any_shape_and_again(engine):
    scans = [torch.rand(shape) for shape in SHAPES]
    assert [tuple(engine(x).shape) for x in scans] == SHAPES
    assert mask_agreement(engine, TorchEngine(network()), scans) >= 0.999


def test_a_graph_serves_all_scans_whose_padded_shape_it_has(engine):
    for shape in ((3, 1, 63, 64), (4, 1, 64, 61), (1, 1, 64, 64)):
        engine(torch.rand(shape))
    assert set(engine._captured) == {(4, 1, 64, 64), (1, 1, 64, 64)}


def test_the_graph_that_was_not_used_for_longest_is_dropped(engine, monkeypatch):
    monkeypatch.setattr(cuda_engine, "GRAPHS", 2)
    for side in (16, 32, 16, 48):
        engine(torch.rand(1, 1, side, side))
    assert [shape[2] for shape in engine._captured] == [16, 48]


def test_half_precision_gives_nearly_torchs_masks():
    engine = cuda_engine.CudaEngine(network(), "cuda:0", "bf16")
    assert mask_agreement(engine, TorchEngine(network()), [torch.rand(2, 1, 64, 64)]) > 0.95
