"""Graphs as files: ONNX, OpenVINO IR and exported programs of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino
import torch
from torch import Tensor
from torch.export import ExportedProgram

from octa_backend.inference.export_record import GRAPH_FILES, ExportFormat, ExportRecord
from octa_backend.inference.openvino_engine import OpenVinoEngine, cpu_arithmetic
from octa_backend.inference.portable_engines import ExportedProgramEngine, OnnxEngine
from octa_backend.inference.quantisation import quantise
from octa_backend.models.base import PerAxis

OPSET = 18
"""Of ONNX: what torch's exporter writes without converting, and what ONNX Runtime has known since 1.14."""


@dataclass(frozen=True, slots=True)
class TracedModel:
    """A graph, and what writing it may need.

    Attributes:
        program: of any batch and size.
        multiple, smallest_side: of the sides that it takes, pixels, one number or one for each axis.
        calibration: gives normalised scans (1, C, H, W), for 8-bit integers alone.
    """

    program: ExportedProgram
    multiple: PerAxis
    smallest_side: PerAxis
    calibration: Callable[[], Sequence[Tensor]]


def write_graph(traced: TracedModel, wanted: ExportFormat, folder: Path) -> None:
    """Write the graph into a folder.

    Raises:
        RuntimeError: the format has no word for something in the graph.
    """
    path = folder / GRAPH_FILES[wanted]
    if wanted == "torch":
        with path.open("wb") as file:  # a path would go to C++, which reads it in the code page of Windows
            torch.export.save(traced.program, file)
    elif wanted == "onnx":
        torch.onnx.export(
            traced.program,
            f=path,
            input_names=["scan"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    else:
        _write_openvino(traced, wanted, path)


def _write_openvino(traced: TracedModel, wanted: ExportFormat, path: Path) -> None:
    graph = openvino.convert_model(traced.program)
    if wanted == "openvino-int8":
        graph = quantise(graph, traced.calibration(), traced.multiple, traced.smallest_side)
    graph.inputs[0].get_tensor().set_names({"scan"})
    graph.outputs[0].get_tensor().set_names({"logits"})
    openvino.save_model(graph, path, compress_to_fp16=False)


def checked_arithmetic(wanted: ExportFormat) -> tuple[str, ...]:
    """In which arithmetic an export is compared with torch on this machine."""
    if wanted == "openvino-int8":
        return ("int8",)
    if wanted == "openvino":
        return tuple(name for name in cpu_arithmetic() if name != "int8")
    return ("fp32",)


def load_graph(record: ExportRecord, arithmetic: str) -> OnnxEngine | ExportedProgramEngine | OpenVinoEngine:
    """Read an export back as an engine."""
    if record.format == "onnx":
        return OnnxEngine(record)
    if record.format == "torch":
        return ExportedProgramEngine(record)
    return OpenVinoEngine(record, arithmetic)
