"""Soft clDice: how much of each centre line lies in the other's vessels, so that thin vessels stay connected.

Shapes: B scans, F foreground classes, *spatial pixels or voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octa_backend.training.comparison import Comparison

SMOOTH = 1.0
"""Added above and below the line of a share, in pixels: an empty centre line lies wholly within anything."""


def cldice_loss(comparison: Comparison, iterations: int) -> Tensor:
    """1 - 2·P·S / (P + S), mean over scans and foreground classes.

    P = (Σ s_p·g + 1) / (Σ s_p + 1) is the share of the predicted centre line in the mask, S = (Σ s_g·p + 1) /
    (Σ s_g + 1) that of the mask's centre line in the prediction; s_p and s_g are soft skeletons.

    Args:
        comparison: of any masks.
        iterations: of the soft skeleton; at least the radius in pixels of the thickest vessel that shall count.

    Source:
        S. Shit et al., clDice, 2021 (arXiv:2003.07311), algorithm 2.
    """
    predicted, mask = comparison.foreground_probability, comparison.foreground
    precision = _share(soft_skeleton(predicted, iterations), mask)
    sensitivity = _share(comparison.once("skeleton", lambda: soft_skeleton(mask, iterations)), predicted)
    return 1 - (2 * precision * sensitivity / (precision + sensitivity)).mean()


def soft_skeleton(x: Tensor, iterations: int) -> Tensor:
    """What each of `iterations` erosions takes away for good: a centre line, differentiable.

    Args:
        x: float32, (B, F, *spatial), in 0..1.
        iterations: erosions; what is thicker than 2 * iterations + 1 pixels has no centre line.

    Returns:
        float32, as `x`, in 0..1.

    Source:
        S. Shit et al., clDice, 2021 (arXiv:2003.07311), algorithm 1.
    """
    skeleton = torch.zeros_like(x)
    for _ in range(iterations + 1):
        eroded = _erode(x)
        lost = (x - _dilate(eroded)).relu()
        skeleton = skeleton + (lost - skeleton * lost).relu()
        x = eroded
    return skeleton


def _erode(x: Tensor) -> Tensor:
    """The least of each pixel and its neighbours along the axes."""
    result = x
    for axis in range(2, x.ndim):
        before, after = _neighbours(x, axis)
        result = torch.minimum(result, torch.minimum(before, after))
    return result


def _dilate(x: Tensor) -> Tensor:
    """The most of each pixel and all its neighbours, those at corners as well."""
    for axis in range(2, x.ndim):
        before, after = _neighbours(x, axis)
        x = torch.maximum(x, torch.maximum(before, after))
    return x


# Shifted copies: several times as fast on a CPU as pooling with windows of three, and the same for any number of axes.
def _neighbours(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The pixel before and the pixel after each along an axis; at the border the pixel itself."""
    length = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, length - 1)], dim=axis)
    after = torch.cat([x.narrow(axis, 1, length - 1), x.narrow(axis, length - 1, 1)], dim=axis)
    return before, after


def _share(line: Tensor, region: Tensor) -> Tensor:
    """The share of a centre line that lies in a region, (B, F)."""
    axes = tuple(range(2, line.ndim))
    return ((line * region).sum(axes) + SMOOTH) / (line.sum(axes) + SMOOTH)
