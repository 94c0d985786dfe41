"""Soft clDice: how much of each centre line lies in the other's vessels, so that thin vessels stay connected.

Shapes: B scans, F foreground classes, *spatial pixels or voxels.
"""

from __future__ import annotations

from torch import Tensor

from octa_backend.training.comparison import Comparison
from octa_backend.training.monai_losses import SoftclDiceLoss

SMOOTH = 1.0
"""Added above and below the line of a share, in pixels: an empty centre line lies wholly within anything."""

NOTHING = 1e-12
"""What MONAI adds to P + S, which is above 0 as it is."""


def cldice_loss(comparison: Comparison, iterations: int) -> Tensor:
    """1 - 2·P·S / (P + S), mean over scans and foreground classes; the soft skeletons and shares are MONAI's.

    P = (Σ s_p·g + 1) / (Σ s_p + 1) is the share of the predicted centre line in the mask, S = (Σ s_g·p + 1) /
    (Σ s_g + 1) that of the mask's centre line in the prediction; s_p and s_g are soft skeletons.

    Args:
        comparison: of any masks.
        iterations: erosions of the soft skeleton; what is thicker than 2 * iterations + 1 pixels has no centre line.

    Source:
        S. Shit et al., clDice, 2021 (arXiv:2003.07311), algorithms 1 and 2.
    """
    cldice = SoftclDiceLoss(iter_=iterations, smooth_nr=SMOOTH, smooth_dr=SMOOTH, smooth=NOTHING)
    loss: Tensor = cldice(_one_by_one(comparison.foreground_probability), _one_by_one(comparison.foreground))
    return loss


def _one_by_one(x: Tensor) -> Tensor:
    """Each class as a scan of its own, (B·F, 1, *spatial): MONAI takes the centre lines of a scan together."""
    return x.flatten(0, 1).unsqueeze(1)
