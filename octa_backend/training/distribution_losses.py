"""Losses that look at one pixel at a time: cross-entropy, plain or weighed, and focal loss (MONAI's).

Shapes: B scans, K classes with background, *spatial pixels or voxels. Every loss is a float32 scalar. Means and sums
are over the pixels that count.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from octa_backend.training.comparison import Comparison
from octa_backend.training.distance_maps import border_map
from octa_backend.training.monai_losses import FocalLoss

SMALLEST = 1e-12
"""Under the line of a fraction at least, where the weights of all pixels are 0."""


def binary_cross_entropy(comparison: Comparison, pos_weight: float | None = None) -> Tensor:
    """Mean over pixels of -(w·y·log p + (1 - y)·log(1 - p)), for one channel of logits; of regions their mean.

    Args:
        comparison: of binary masks, or of regions.
        pos_weight: w, the weight of foreground pixels; None is 1.
    """
    logits, target = comparison.logits, comparison.foreground
    weight = None if pos_weight is None else logits.new_tensor(pos_weight)
    if comparison.counted is None:
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
    each = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return comparison.mean(each.mean(1))


def cross_entropy(comparison: Comparison) -> Tensor:
    """Mean over pixels of -log p_y, with y the pixel's true class."""
    if comparison.binary:
        return binary_cross_entropy(comparison)
    # Not torch's own mean, which CUDA cannot compute twice with the same result.
    return comparison.mean(comparison.cross_entropy)


def weighted_cross_entropy(comparison: Comparison, class_weights: tuple[float, ...]) -> Tensor:
    """Σ w_y·(-log p_y) / Σ w_y over all pixels of the batch, w_y the weight of the true class.

    Args:
        comparison: of any masks.
        class_weights: w of each class, with background.

    Raises:
        ValueError: there is not one weight for each class.

    Source:
        The weighted mean of `torch.nn.CrossEntropyLoss`; weights by inverse frequency: G. King and L. Zeng,
        Logistic regression in rare events data, Political Analysis 9(2), 2001.
    """
    weight = comparison.by_class(class_weights)
    return (weight * comparison.cross_entropy).sum() / weight.sum().clamp_min(SMALLEST)


def weight_map_cross_entropy(
    comparison: Comparison, class_weights: tuple[float, ...], border_weight: float, border_sigma: float
) -> Tensor:
    """Mean over pixels of w(x)·(-log p_y), w(x) = w_y + w0·exp(-(d1 + d2)² / 2σ²) in the background.

    The second term makes gaps between neighbouring objects dear; see `gap_widths` for d1 and d2.

    Args:
        comparison: of any masks.
        class_weights: w_y of each class, with background.
        border_weight: w0.
        border_sigma: σ, pixels.

    Raises:
        ValueError: there is not one weight for each class.

    Source:
        O. Ronneberger et al., U-Net, 2015 (arXiv:1505.04597), equations 1 and 2.
    """
    border = comparison.once("border", lambda: border_map(comparison.mask, border_sigma, comparison.gap))
    weight = comparison.by_class(class_weights) + border_weight * border
    return comparison.mean(weight * comparison.cross_entropy)


def focal_loss(comparison: Comparison, alpha: float, gamma: float) -> Tensor:
    """Mean over pixels of -α_y·(1 - p_y)^γ·log p_y: pixels that are right already count little.

    Args:
        comparison: of any masks.
        alpha: α of foreground classes; that of the background is 1 - α.
        gamma: γ; 0 leaves the cross-entropy.

    Source:
        T.-Y. Lin et al., Focal loss for dense object detection, 2017 (arXiv:1708.02002), equation 5; there the mean is
        over anchors, here over pixels.
    """
    focal = FocalLoss(gamma=gamma, reduction="none")
    logit = _logit_of_truth(comparison)
    each: Tensor = focal(logit, torch.ones_like(logit))[:, 0]
    weight = comparison.by_class((1 - alpha,) + (alpha,) * (comparison.classes - 1))
    return comparison.mean(weight * each)


# MONAI's focal loss of several classes has no finite gradient where one of them is certain and gamma is below 1.
# That of one channel has: so it is asked whether each pixel belongs to its true class, which is the same formula.
def _logit_of_truth(comparison: Comparison) -> Tensor:
    """log(p_y / (1 - p_y)) with y the pixel's true class, (B, 1, *spatial)."""
    logits = comparison.logits
    if comparison.binary:
        return logits * (2 * comparison.foreground - 1)
    truth = comparison.mask.unsqueeze(1)
    others = logits.scatter(1, truth, -torch.inf).logsumexp(1, keepdim=True)
    return logits.gather(1, truth) - others
