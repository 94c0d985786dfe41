"""Whether an engine gives the masks that torch gives.

Shapes: B scans, C channels, H x W pixels, of volumes D x H x W voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from octa_backend.inference.probability import predicted_classes
from octa_backend.inference.tiling import predict_logits

Logits = Callable[[Tensor], Tensor]


def mask_agreement(engine: Logits, reference: Logits, scans: Sequence[Tensor]) -> float:
    """Share of pixels, over all scans, to which both give the same class.

    Args:
        engine, reference: map (B, C, H, W) to logits.
        scans: normalised, float32 (B, C, H, W) each, of any size; they are computed in tiles as predictions are.
    """
    same = pixels = 0
    for x_BCHW in scans:
        equal = _classes(engine, x_BCHW) == _classes(reference, x_BCHW)
        same, pixels = same + int(equal.sum()), pixels + equal.numel()
    return same / pixels


def with_other_shapes(scans: Sequence[Tensor]) -> list[Tensor]:
    """The scans, and of the first one two overlapping parts of odd sides as one batch: a graph must take any shape."""
    first = scans[0]
    sides = [max(1, side * 3 // 4) | 1 for side in first.shape[2:]]
    at_start, at_end = tuple(slice(side) for side in sides), tuple(slice(-side, None) for side in sides)
    return [*scans, torch.cat((first[:, :, *at_start], first[:, :, *at_end]))]


@torch.inference_mode()
def _classes(engine: Logits, x_BCHW: Tensor) -> Tensor:
    return predicted_classes(predict_logits(engine, x_BCHW))
