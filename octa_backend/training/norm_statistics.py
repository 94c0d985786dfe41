"""BatchNorm's statistics while a run is young: measured with the weights that are validated.

The running ones are means over the last tens of steps, and the average of the weights averages them once more. In the
first steps the weights change faster than that: a network that segments well in training finds nothing in validation.

Shapes: B scans, C channels, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

YOUNG_STEPS = 200
"""They are measured up to this step. Of 20 scans, ten steps an epoch, the running ones had caught up after 80."""
BATCHES = 4
"""Last batches of the epoch that they are measured on; eight gave the same (`unet`, six scans)."""


@torch.no_grad()
def measure_statistics(network: nn.Module, images_BC: Iterable[Tensor]) -> None:
    """Replace the running statistics of a network's BatchNorms by those of some batches, each counting alike.

    Args:
        network: in evaluation mode; left as it is where it has no BatchNorm.
        images_BC: float32 (B, C, *spatial), augmented and normalised as in training.

    Source:
        Y. Wu and J. Johnson, Rethinking "Batch" in BatchNorm, 2021 (arXiv:2105.07576), section 3.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for image_BC in images_BC:
        network(image_BC)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.eval()
