"""What computes a model's logits, behind one interface, and which engine a model gets.

On a GPU it is torch with CUDA graphs; on a CPU OpenVINO, where the model's graph was exported and gave torch's masks;
else plain torch, which is never wrong about itself.

Shapes: B scans, C channels, H x W pixels, K output channels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from octa_backend.inference.export_record import ExportFormat, ExportRecord, find_export
from octa_backend.inference.model_folder import spatial_dims
from octa_backend.inference.torch_engine import TorchEngine, load_network
from octa_backend.settings import EngineName
from octa_backend.training.precision import probe

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """Computes logits of scans of one size; one call at a time.

    Attributes:
        name: for people: the library and its arithmetic, such as `openvino fp32`.
    """

    name: str

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Map normalised float32 scans (B, C, H, W) on the CPU to float32 logits (B, K, H, W) there."""


def export_wanted(device_type: str, wanted: EngineName) -> ExportFormat | None:
    """Which exported graph an engine of this setting computes with; None where it computes with torch."""
    if device_type != "cpu" or wanted == "torch":
        return None
    return "openvino-int8" if wanted == "openvino-int8" else "openvino"


def open_engine(folder: Path, card: Mapping[str, Any], device: torch.device, wanted: EngineName = "auto") -> Engine:
    """The engine for one model with weights. Exports nothing: what was exported before is used.

    Args:
        folder: the model's, with weights.
        card: of it, or of the ensemble that it is a member of.
        device: where to compute.
        wanted: the `engine` setting.

    Raises:
        UnknownNetwork, IncompatibleCheckpoint: card and weights do not fit this version, or each other.
    """
    exported = export_wanted(device.type, wanted)
    record = find_export(folder, exported) if exported else None
    if exported and record is not None:
        from octa_backend.inference.openvino_engine import OpenVinoEngine, cpu_arithmetic  # noqa: PLC0415 - only where used

        arithmetic = usable_arithmetic(record, cpu_arithmetic())
        if arithmetic is not None:
            return OpenVinoEngine(record, arithmetic)
        _log.warning("%s was not checked in the arithmetic of this processor; plain torch answers", record.folder)
    return _torch_engine(folder, card, device)


def usable_arithmetic(record: ExportRecord, offered: tuple[str, ...]) -> str | None:
    """The fastest arithmetic, of those offered, fastest first, in which an export gave the masks that torch gives."""
    return next((name for name in offered if record.agrees(name)), None)


def _torch_engine(folder: Path, card: Mapping[str, Any], device: torch.device) -> Engine:
    network = load_network(folder, card)
    hardware = probe(device)
    precision = "bf16" if hardware.bf16_pays else "fp32"
    if hardware.on_gpu:
        from octa_backend.inference.cuda_engine import CudaEngine  # noqa: PLC0415 - only where there is a GPU

        return CudaEngine(network, hardware.device, precision, spatial_dims(card))
    return TorchEngine(network, hardware.device, precision, spatial_dims(card))
