"""From logits to probabilities and class indices.

Shapes: B scans, K output channels (1 for binary, else one per class), *spatial pixels or voxels.
"""

from __future__ import annotations

from torch import Tensor


def foreground_probability(logits_BK: Tensor) -> Tensor:
    """Probability (B, *spatial) that a pixel is not background: sigmoid of one channel, or 1 - softmax's class 0."""
    if logits_BK.shape[1] == 1:
        return logits_BK[:, 0].sigmoid()
    return 1 - logits_BK.softmax(1)[:, 0]


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
