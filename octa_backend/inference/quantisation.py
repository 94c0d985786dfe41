"""8-bit integers for OpenVINO, by NNCF, which the extra `int8` installs.

Source: B. Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018 (arXiv:1712.05877): scales from the ranges that calibration scans show.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import openvino
from torch import Tensor

from octa_backend.errors import ExportFailed
from octa_backend.models.base import PerAxis, pad_sides

CALIBRATION_SCANS = 32
"""Training scans that the ranges are measured on."""


def require_nncf() -> None:
    """Refuse 8-bit integers where their library is not installed.

    Raises:
        ExportFailed: it is not.
    """
    if importlib.util.find_spec("nncf") is None:
        raise ExportFailed("8-bit integers need NNCF; install it with: pip install 'octa-backend[int8]'")


def quantise(graph: openvino.Model, scans: Sequence[Tensor], multiple: PerAxis, smallest: PerAxis) -> openvino.Model:
    """The graph with its convolutions and matrix products in 8-bit integers.

    Args:
        graph: in float32.
        scans: normalised, float32 (1, C, H, W) each.
        multiple, smallest: of the sides that the graph takes, pixels.
    """
    import nncf  # noqa: PLC0415 - an extra, and slow to import

    calibration = nncf.Dataset([pad_sides(x_1CHW, multiple, smallest).numpy() for x_1CHW in scans])
    quantised: openvino.Model = nncf.quantize(graph, calibration, subset_size=len(scans))
    return quantised
