"""Losses that look at the overlap of whole regions: Dice, generalized Dice, IoU, Tversky. The overlaps are MONAI's.

Shapes: B scans, K classes with background, F = K - 1 foreground classes, *spatial pixels or voxels. Every loss is a
float32 scalar, the mean over scans and foreground classes.
"""

from __future__ import annotations

from torch import Tensor

from octa_backend.training.comparison import Comparison
from octa_backend.training.loss_options import Denominator
from octa_backend.training.monai_losses import DiceLoss, GeneralizedDiceLoss, TverskyLoss

SMOOTH = 1.0
"""Added above and below the line of an overlap, in pixels: an empty mask met by an empty prediction is 1."""

SMALLEST = 1e-30
"""Added above and below the line of the generalized Dice, for scans of which no pixel counts; nothing beside weights of
1 / (Σg)²."""

NEARLY_RIGHT = 1e-6
"""A Tversky index is at most 1 minus this under a power below 1, whose gradient is infinite at 0."""


def dice_loss(comparison: Comparison, denominator: Denominator = "plain") -> Tensor:
    """1 - soft Dice, (2 Σpg + 1) / (Σp + Σg + 1), or Σp² + Σg² below the line.

    Args:
        comparison: of any masks.
        denominator: `plain` or `squared`, which asks less for certainty.

    Source:
        F. Milletari et al., V-Net, 2016 (arXiv:1606.04797), whose denominator is the squared one.
    """
    dice = DiceLoss(squared_pred=denominator == "squared", smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    loss: Tensor = dice(comparison.foreground_probability, comparison.foreground)
    return loss


def iou_loss(comparison: Comparison) -> Tensor:
    """1 - (Σpg + 1) / (Σp + Σg - Σpg + 1), the soft Jaccard index.

    Source:
        M. A. Rahman and Y. Wang, Optimizing intersection-over-union in deep neural networks for image segmentation,
        ISVC 2016.
    """
    twice = 2 * SMOOTH  # MONAI doubles what stands above and below the line, but not this
    jaccard = DiceLoss(jaccard=True, smooth_nr=twice, smooth_dr=twice)
    loss: Tensor = jaccard(comparison.foreground_probability, comparison.foreground)
    return loss


def generalized_dice_loss(comparison: Comparison) -> Tensor:
    """1 - 2 Σ_k w_k Σpg / Σ_k w_k (Σp + Σg) over all K classes, background as well, w_k = 1 / (Σg)².

    The weights make small and large classes count alike. A class that a scan lacks gets the largest weight of those
    it has. The mean is over scans. The background of one channel, which MONAI would leave out, is given as a class.

    Source:
        C. H. Sudre et al., Generalised Dice overlap as a deep learning loss function, 2017 (arXiv:1707.03237).
    """
    generalized = GeneralizedDiceLoss(smooth_nr=SMALLEST, smooth_dr=SMALLEST)
    loss: Tensor = generalized(comparison.probability, comparison.one_hot)
    return loss


def tversky_loss(comparison: Comparison, alpha: float, beta: float) -> Tensor:
    """1 - (TP + 1) / (TP + α·FP + β·FN + 1), with TP = Σpg, FP = Σp(1 - g), FN = Σ(1 - p)g.

    Args:
        comparison: of any masks.
        alpha: α, what false foreground costs.
        beta: β, what missed foreground costs.

    Source:
        S. S. M. Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep
        networks, 2017 (arXiv:1706.05721).
    """
    return _tversky_losses(comparison, alpha, beta).mean()


def focal_tversky_loss(comparison: Comparison, alpha: float, beta: float, exponent: float) -> Tensor:
    """(1 - Tversky index)^exponent; below 1 it keeps small regions that are nearly right from being forgotten.

    Args:
        comparison: of any masks.
        alpha: what false foreground costs, as in `tversky_loss`.
        beta: what missed foreground costs.
        exponent: 1/γ of the source, which takes γ = 4/3.

    Source:
        N. Abraham and N. M. Khan, A novel focal Tversky loss function with improved attention U-Net for lesion
        segmentation, 2019 (arXiv:1810.07842).
    """
    return _tversky_losses(comparison, alpha, beta).clamp_min(NEARLY_RIGHT).pow(exponent).mean()


def _tversky_losses(comparison: Comparison, alpha: float, beta: float) -> Tensor:
    """1 - Tversky index of each scan and class, (B, F)."""
    tversky = TverskyLoss(alpha=alpha, beta=beta, smooth_nr=SMOOTH, smooth_dr=SMOOTH, reduction="none")
    losses: Tensor = tversky(comparison.foreground_probability, comparison.foreground)
    return losses
