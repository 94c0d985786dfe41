"""From logits to probabilities and class indices.

Shapes: B scans, K output channels (1 for binary, else one per class), *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def class_probabilities(logits_BK: Tensor) -> Tensor:
    """Probability of each class with background, (B, 2, *spatial) for one channel of logits, else (B, K, *spatial)."""
    if logits_BK.shape[1] == 1:
        foreground = logits_BK.sigmoid()
        return torch.cat((1 - foreground, foreground), dim=1)
    return logits_BK.softmax(1)


def mean_probabilities(several_BK: Sequence[Tensor]) -> Tensor:
    """Mean over networks of the probability of each class: each network's logits become probabilities first."""
    return torch.stack([class_probabilities(logits_BK) for logits_BK in several_BK]).mean(0)


def predicted_classes(logits_BK: Tensor, threshold: float = 0.5) -> Tensor:
    """Class indices (B, *spatial), int64.

    Args:
        logits_BK: (B, K, *spatial).
        threshold: a pixel is foreground from this probability on; with several classes the likeliest wins and it
            is not used.
    """
    if logits_BK.shape[1] == 1:
        return (logits_BK[:, 0].sigmoid() >= threshold).long()
    return logits_BK.argmax(1)
