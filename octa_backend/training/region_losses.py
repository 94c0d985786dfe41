"""Losses that look at the overlap of whole regions: Dice, generalized Dice, IoU, Tversky.

Shapes: B scans, K classes with background, F = K - 1 foreground classes, *spatial pixels or voxels. Overlaps are
(B, F); every loss is a float32 scalar, the mean over scans and foreground classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octa_backend.training.comparison import Comparison
from octa_backend.training.loss_options import Denominator

SMOOTH = 1.0
"""Added above and below the line of an overlap, in pixels: an empty mask met by an empty prediction is 1."""

SMALLEST = 1e-12
"""Below the line of the generalized Dice, where no pixel of a scan counts."""

NEARLY_RIGHT = 1e-6
"""A Tversky index is at most 1 minus this under a power below 1, whose gradient is infinite at 0."""


def soft_dice(probability: Tensor, target: Tensor, denominator: Denominator = "plain") -> Tensor:
    """Soft Dice overlap over the spatial axes: (2 Σpg + 1) / (Σp + Σg + 1), or Σp² + Σg² below the line.

    Args:
        probability: p, float32, (B, F, *spatial), in 0..1.
        target: g, float32, (B, F, *spatial), 0 or 1.
        denominator: `plain` or `squared`, which asks less for certainty.

    Returns:
        float32, (B, F), in 0..1. An empty target met by zero probability gives 1.

    Source:
        F. Milletari et al., V-Net, 2016 (arXiv:1606.04797), whose denominator is the squared one.
    """
    if denominator == "squared":
        size = _total(probability.square()) + _total(target.square())
    else:
        size = _total(probability) + _total(target)
    return (2 * _total(probability * target) + SMOOTH) / (size + SMOOTH)


def dice_loss(comparison: Comparison, denominator: Denominator = "plain") -> Tensor:
    """1 - soft Dice."""
    return 1 - soft_dice(comparison.foreground_probability, comparison.foreground, denominator).mean()


def iou_loss(comparison: Comparison) -> Tensor:
    """1 - (Σpg + 1) / (Σp + Σg - Σpg + 1), the soft Jaccard index.

    Source:
        M. A. Rahman and Y. Wang, Optimizing intersection-over-union in deep neural networks for image segmentation,
        ISVC 2016.
    """
    overlap = _total(comparison.foreground_probability * comparison.foreground)
    union = _total(comparison.foreground_probability) + _total(comparison.foreground) - overlap
    return 1 - ((overlap + SMOOTH) / (union + SMOOTH)).mean()


def generalized_dice_loss(comparison: Comparison) -> Tensor:
    """1 - 2 Σ_k w_k Σpg / Σ_k w_k (Σp + Σg) over all K classes, background as well, w_k = 1 / (Σg)².

    The weights make small and large classes count alike. A class that a scan lacks gets the largest weight of those
    it has, as in NiftyNet. The mean is over scans.

    Source:
        C. H. Sudre et al., Generalised Dice overlap as a deep learning loss function, 2017 (arXiv:1707.03237).
    """
    probability, target = comparison.probability, comparison.one_hot
    size = _total(target)
    smallest = torch.where(size > 0, size, torch.inf).amin(1, keepdim=True)
    smallest = torch.where(smallest.isinf(), 1.0, smallest)  # of a scan whose pixels are all ignored
    weight = (smallest / torch.where(size > 0, size, smallest)).square()  # relative to the largest: no underflow
    overlap = (weight * _total(probability * target)).sum(1)
    both = (weight * (_total(probability) + size)).sum(1)
    return 1 - torch.where(both > 0, 2 * overlap / both.clamp_min(SMALLEST), 1.0).mean()


def tversky_index(comparison: Comparison, alpha: float, beta: float) -> Tensor:
    """(TP + 1) / (TP + α·FP + β·FN + 1), float32, (B, F), with TP = Σpg, FP = Σp(1 - g), FN = Σ(1 - p)g.

    Args:
        comparison: of any masks.
        alpha: α, what false foreground costs.
        beta: β, what missed foreground costs.

    Source:
        S. S. M. Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep
        networks, 2017 (arXiv:1706.05721).
    """
    hit = _total(comparison.foreground_probability * comparison.foreground)
    false = _total(comparison.foreground_probability) - hit
    missed = _total(comparison.foreground) - hit
    return (hit + SMOOTH) / (hit + alpha * false + beta * missed + SMOOTH)


def tversky_loss(comparison: Comparison, alpha: float, beta: float) -> Tensor:
    """1 - Tversky index."""
    return 1 - tversky_index(comparison, alpha, beta).mean()


def focal_tversky_loss(comparison: Comparison, alpha: float, beta: float, exponent: float) -> Tensor:
    """(1 - Tversky index)^exponent; below 1 it keeps small regions that are nearly right from being forgotten.

    Args:
        comparison: of any masks.
        alpha: what false foreground costs, as in `tversky_index`.
        beta: what missed foreground costs.
        exponent: 1/γ of the source, which takes γ = 4/3.

    Source:
        N. Abraham and N. M. Khan, A novel focal Tversky loss function with improved attention U-Net for lesion
        segmentation, 2019 (arXiv:1810.07842).
    """
    return (1 - tversky_index(comparison, alpha, beta)).clamp_min(NEARLY_RIGHT).pow(exponent).mean()


def _total(x: Tensor) -> Tensor:
    return x.sum(tuple(range(2, x.ndim)))
