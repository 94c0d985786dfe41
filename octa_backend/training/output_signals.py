"""What the logits of a training batch tell: how much is predicted as foreground, and how the loss's components pull.

Shapes: B scans, K output channels (1 for binary, else one per class), *spatial pixels or voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from octa_backend.training.losses import Loss, compute_loss


@torch.no_grad()
def foreground_counts(logits_BK: Tensor, mask_B: Tensor) -> Tensor:
    """Pixels predicted as foreground, pixels that are, and all that count: int64, (3,).

    Args:
        logits_BK: (B, K, *spatial).
        mask_B: class indices, (B, *spatial); pixels below 0 do not count.
    """
    counted = mask_B >= 0
    background = logits_BK[:, 0]
    found = background >= 0 if logits_BK.shape[1] == 1 else logits_BK[:, 1:].amax(1) > background
    return torch.stack([(found & counted).sum(), (mask_B > 0).sum(), counted.sum()])


def component_products(loss: Loss, logits_BK: Tensor, mask_B: Tensor, gap_B: Tensor | None = None) -> Tensor:
    """Scalar products of the components' weighted gradients with respect to the logits, each with each.

    The graph begins at the logits, so nothing runs back through the network, and its gradients stay as they are.

    Args:
        loss: of n components.
        logits_BK: (B, K, *spatial).
        mask_B: class indices, (B, *spatial).
        gap_B: what the loss may look at beside the mask, see `Batch`.

    Returns:
        float32, (n, n): squared norms in the diagonal. A component that does not depend on the logits has 0.
    """
    logits = logits_BK.detach().float().requires_grad_()
    components = compute_loss(loss, logits, mask_B, gap_B).components
    gradients = torch.stack(
        [_gradient(loss.weights[name] * value, logits).flatten() for name, value in components.items()]
    )
    return gradients @ gradients.T


def _gradient(value: Tensor, logits: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(logits)
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


def norms_and_cosine(products: Sequence[Sequence[float]]) -> tuple[list[float], float | None]:
    """Norms of the gradients from their products, and the cosine of two; None if there are not two, or one is 0."""
    norms = [math.sqrt(row[index]) for index, row in enumerate(products)]
    if len(norms) != 2 or not all(norms):
        return norms, None
    return norms, products[0][1] / (norms[0] * norms[1])
