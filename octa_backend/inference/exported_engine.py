"""What the engines of exported graphs share: the padding that the graph leaves to its caller.

Shapes: B scans, C channels, H x W pixels, K output channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from octa_backend.inference.export_record import ExportRecord
from octa_backend.models.base import crop, pad_sides


class ExportedEngine(ABC):
    """An exported graph that is loaded."""

    def __init__(self, record: ExportRecord, name: str) -> None:
        self.name = name
        self._multiple, self._smallest = record.multiple, record.smallest_side

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W), on the CPU."""
        padded = pad_sides(x_BCHW, self._multiple, self._smallest)
        return crop(self._compute(padded.contiguous()), x_BCHW.shape[2:])

    @abstractmethod
    def _compute(self, x_BCHW: Tensor) -> Tensor:
        """The graph's logits of sides that it can take."""
