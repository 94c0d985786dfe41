"""ONNX Runtime and exported programs of torch: to check what is handed out, not to serve with.

Shapes: B scans, C channels, H x W pixels, K output channels.
"""

from __future__ import annotations

import onnxruntime
import torch
from torch import Tensor

from octa_backend.inference.export_record import ExportRecord
from octa_backend.inference.exported_engine import ExportedEngine


class OnnxEngine(ExportedEngine):
    """A graph of ONNX on the CPU."""

    def __init__(self, record: ExportRecord) -> None:
        super().__init__(record, "onnxruntime fp32")
        self._session = onnxruntime.InferenceSession(record.graph, providers=["CPUExecutionProvider"])

    def _compute(self, x_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(self._session.run(None, {"scan": x_BCHW.numpy()})[0])


class ExportedProgramEngine(ExportedEngine):
    """A program of `torch.export` on the CPU."""

    def __init__(self, record: ExportRecord) -> None:
        super().__init__(record, "torch.export fp32")
        with record.graph.open("rb") as file:  # see export_formats.write_graph
            self._module = torch.export.load(file).module()

    @torch.inference_mode()
    def _compute(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self._module(x_BCHW)
        return logits
