"""Losses. Each returns its total and its unweighted components by name.

Shapes: B scans, K classes, *spatial pixels or voxels. logits_B1: (B, 1, *spatial); logits_BK: (B, K, *spatial).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octa_backend.training.config import TrainConfig

SMOOTH = 1.0
"""Added to numerator and denominator of the soft Dice, in pixels: an empty mask met by an empty prediction is 1."""


class LossResult(NamedTuple):
    """A loss and what it is made of: `total` is the weighted sum of `components`, each a float32 scalar."""

    total: Tensor
    components: dict[str, Tensor]


def soft_dice(probability: Tensor, target: Tensor) -> Tensor:
    """Soft Dice overlap over the spatial axes.

    Args:
        probability: float32, (B, K, *spatial), in 0..1.
        target: float32, (B, K, *spatial), 0 or 1.

    Returns:
        float32, (B, K), in 0..1. An empty target met by zero probability gives 1.

    Source:
        F. Milletari et al., V-Net, 2016 (arXiv:1606.04797), plain denominator, additive smoothing of one pixel.
    """
    axes = tuple(range(2, probability.ndim))
    overlap = (probability * target).sum(axes)
    size = probability.sum(axes) + target.sum(axes)
    return (2 * overlap + SMOOTH) / (size + SMOOTH)


class DiceBCELoss(nn.Module):
    """Weighted sum of binary cross-entropy and Dice loss (1 - soft Dice, mean over scans), for binary masks.

    Computed in float32 whatever the network computed in, so that it is stable under bf16 autocast.

    Args:
        bce_weight: weight of the cross-entropy.
        dice_weight: weight of the Dice loss.
        pos_weight: weight of foreground pixels in the cross-entropy; None is 1.
    """

    def __init__(self, bce_weight: float = 0.5, dice_weight: float = 0.5, pos_weight: float | None = None) -> None:
        super().__init__()
        self.weights = {"bce": bce_weight, "dice": dice_weight}
        self.pos_weight = pos_weight

    def forward(self, logits_B1: Tensor, target_B1: Tensor) -> LossResult:
        """Compare logits (B, 1, *spatial) with a mask of 0 and 1 of the same shape.

        Raises:
            ValueError: the shapes differ (broadcasting would hide a bug).
        """
        if logits_B1.shape != target_B1.shape:
            raise ValueError(f"logits are {tuple(logits_B1.shape)} but the mask is {tuple(target_B1.shape)}")
        with torch.autocast(logits_B1.device.type, enabled=False):
            logits, target = logits_B1.float(), target_B1.float()
            weight = None if self.pos_weight is None else logits.new_tensor(self.pos_weight)
            bce = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
            dice = 1 - soft_dice(logits.sigmoid(), target).mean()
            return _weighted(self.weights, {"bce": bce, "dice": dice})


class DiceCELoss(nn.Module):
    """Weighted sum of softmax cross-entropy and Dice loss (mean over scans and foreground classes).

    Args:
        ce_weight: weight of the cross-entropy.
        dice_weight: weight of the Dice loss.
    """

    def __init__(self, ce_weight: float = 0.5, dice_weight: float = 0.5) -> None:
        super().__init__()
        self.weights = {"ce": ce_weight, "dice": dice_weight}

    def forward(self, logits_BK: Tensor, target_B: Tensor) -> LossResult:
        """Compare logits (B, K, *spatial) with class indices (B, *spatial), int64.

        Raises:
            ValueError: the shapes do not fit.
        """
        if logits_BK.shape[:1] + logits_BK.shape[2:] != target_B.shape:
            raise ValueError(f"logits are {tuple(logits_BK.shape)} but the mask is {tuple(target_B.shape)}")
        with torch.autocast(logits_BK.device.type, enabled=False):
            logits = logits_BK.float()
            one_hot = F.one_hot(target_B, logits.shape[1]).movedim(-1, 1).float()
            ce = F.cross_entropy(logits, target_B)
            dice = 1 - soft_dice(logits.softmax(1), one_hot)[:, 1:].mean()
            return _weighted(self.weights, {"ce": ce, "dice": dice})


def _weighted(weights: dict[str, float], components: dict[str, Tensor]) -> LossResult:
    total = torch.stack([weights[name] * value for name, value in components.items()]).sum()
    return LossResult(total, components)


Loss = DiceBCELoss | DiceCELoss


def make_loss(config: TrainConfig) -> Loss:
    """The loss that a resolved config names."""
    if config.loss == "dice_ce":
        return DiceCELoss(config.bce_weight, config.dice_weight)
    return DiceBCELoss(config.bce_weight, config.dice_weight, config.pos_weight)


def compute_loss(loss: Loss, logits_BK: Tensor, mask_B: Tensor) -> LossResult:
    """Compare logits (B, K, *spatial) with class indices (B, *spatial), whichever form the loss wants."""
    result: LossResult = loss(logits_BK, mask_B.unsqueeze(1) if isinstance(loss, DiceBCELoss) else mask_B)
    return result
