"""OpenVINO on the CPU."""

from __future__ import annotations

import functools

import openvino
import torch
from torch import Tensor

from octa_backend.inference.export_record import ExportRecord
from octa_backend.inference.exported_engine import ExportedEngine

DEVICE = "CPU"
PRECISIONS = {"bf16": "bf16", "fp32": "f32", "int8": "f32"}
"""OpenVINO's word for each arithmetic; what an int8 graph has not quantised is computed in float32."""


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


def cpu_arithmetic() -> tuple[str, ...]:
    """What this processor computes in, fastest first: `bf16` where it has instructions for that, else `fp32` alone."""
    able: list[str] = _core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return ("int8", "bf16", "fp32") if "BF16" in able else ("int8", "fp32")


class OpenVinoEngine(ExportedEngine):
    """A graph of OpenVINO in one arithmetic, for any size."""

    def __init__(self, record: ExportRecord, arithmetic: str) -> None:
        super().__init__(record, f"openvino {arithmetic}")
        options = {"INFERENCE_PRECISION_HINT": PRECISIONS[arithmetic], "PERFORMANCE_HINT": "LATENCY"}
        self._request = _core().compile_model(record.graph, DEVICE, options).create_infer_request()

    def _compute(self, x_BCHW: Tensor) -> Tensor:
        found = self._request.infer({0: x_BCHW.numpy()}, share_inputs=True)
        return torch.from_numpy(found[0])
