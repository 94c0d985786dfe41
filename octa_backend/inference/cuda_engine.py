"""Torch on CUDA: bf16, channels innermost, and one CUDA graph for each shape, so that a launch costs nothing.

Shapes: B scans, C channels, H x W pixels, K output channels.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octa_backend.inference.graph import multiple_of
from octa_backend.models.base import crop, pad_to_multiple
from octa_backend.training.precision import memory_format

GRAPHS = 16
"""Most graphs that are kept."""
ONE_AT_A_TIME = threading.Lock()
"""Held wherever an engine uses a GPU: torch allows one capture in a process, and what another engine allocates or runs
meanwhile would break it."""

WARM_UP_RUNS = 3  # before a capture, as torch's documentation of CUDA graphs asks: cuDNN picks its kernels then


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph with the memory that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    scans: Tensor
    logits: Tensor


class CudaEngine:
    """A network on a GPU.

    Few shapes are captured: sides are padded as the network would pad them itself, and a batch is filled up to a power
    of two.
    """

    def __init__(self, network: nn.Module, device: str, precision: str, spatial_dims: int = 2) -> None:
        self.name = f"cuda {precision}"
        self._device, self._half = torch.device(device), precision == "bf16"
        self._multiple = multiple_of(network)
        self._layout = memory_format(True, spatial_dims)
        with ONE_AT_A_TIME, torch.cuda.device(self._device):
            self._network = network.to(device).to(memory_format=self._layout)
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # One after the other, each answer copied before the next replay: graphs may share the memory between layers.
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: OrderedDict[tuple[int, ...], _Captured] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W)."""
        padded = pad_to_multiple(x_BCHW, self._multiple)
        batch = 1 << (len(padded) - 1).bit_length()
        with ONE_AT_A_TIME, torch.cuda.device(self._device):
            captured = self._graph_for((batch, *padded.shape[1:]))
            captured.scans[: len(padded)].copy_(padded, non_blocking=True)
            captured.graph.replay()
            return crop(captured.logits[: len(padded)], x_BCHW.shape[2:]).float().cpu()

    def _graph_for(self, shape: tuple[int, ...]) -> _Captured:
        captured = self._captured.pop(shape, None) or self._capture(shape)
        self._captured[shape] = captured
        while len(self._captured) > GRAPHS:
            self._captured.popitem(last=False)
        return captured

    def _capture(self, shape: tuple[int, ...]) -> _Captured:
        x_BCHW = torch.zeros(shape, device=self._device).contiguous(memory_format=self._layout)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                self._compute(x_BCHW)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # A stream of this device: torch's own would be one of the first GPU. Other threads of the process may use the
        # GPU outside of engines, such as comparisons: their calls are not forbidden.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            logits_BKHW = self._compute(x_BCHW)
        return _Captured(graph, x_BCHW, logits_BKHW)

    def _compute(self, x_BCHW: Tensor) -> Tensor:
        # Casts of weights that a cache holds would be freed after the capture, while the graph still reads them.
        with torch.autocast("cuda", torch.bfloat16, enabled=self._half, cache_enabled=False):
            logits: Tensor = self._network(x_BCHW)
        return logits
