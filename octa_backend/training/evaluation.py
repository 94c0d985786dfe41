"""Scores of whole scans: validation after every epoch, and the test split once, at the end.

Shapes: B scans, K output channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from octa_backend.inference.probability import predicted_classes
from octa_backend.inference.tiling import predict_logits, tile_of
from octa_backend.models.regions import class_logits
from octa_backend.training.batches import TrainingData
from octa_backend.training.losses import Loss, compute_loss
from octa_backend.training.metrics import ClassScores, ScanScore, counts_at_all, mean_of_classes, score_classes
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast, memory_format

ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One scan's result: its name, its loss, its overlap with the grader's mask, and that of each class.

    The overlap is None where no pixel counts.
    """

    name: str
    loss: float
    score: ScanScore | None
    classes: ClassScores = ()


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    data: TrainingData,
    plan: Plan,
    loss: Loss,
    indices: Iterable[int],
    should_stop: ShouldStop,
) -> list[Evaluated] | None:
    """Score each scan at its full size, one at a time.

    Args:
        network: in evaluation mode, on the plan's device.
        data: the scans.
        plan: says in which arithmetic.
        loss: the training's loss.
        indices: which scans.
        should_stop: asked between scans.

    Returns:
        A result per scan, or None if asked to stop.
    """
    results = []
    for index in indices:
        if should_stop():
            return None
        logits, mask = whole_logits(network, data, plan, index)
        gap = data.gap(index, plan)
        gap_B = None if gap is None else torch.from_numpy(gap.astype(np.float32))[None].to(plan.device)
        found = predicted_classes(class_logits(logits, plan.region_order))[0]
        classes = score_classes(found, mask[0], plan.classes)
        results.append(
            Evaluated(
                name=data.store.manifest.scans[index].name,
                loss=float(compute_loss(loss, logits, mask, gap_B).total),
                score=mean_of_classes(classes) if counts_at_all(mask[0]) else None,
                classes=classes,
            )
        )
    return results


def whole_logits(network: nn.Module, data: TrainingData, plan: Plan, index: int) -> tuple[Tensor, Tensor]:
    """Logits (1, K, *spatial) of one scan at its full size, and its mask, int64 (1, *spatial), on the plan's device."""
    image, mask = data.whole(index, plan.normalisation, plan.config.ignore_index)
    layout = memory_format(plan.channels_last, len(plan.patch_shape))
    with autocast(plan.device, plan.config.precision):
        x = image.to(plan.device).contiguous(memory_format=layout)
        logits = predict_logits(network, x, tile_of(plan.patch_shape))
    return logits, mask.to(plan.device)
