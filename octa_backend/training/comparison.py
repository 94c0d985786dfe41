"""A batch's logits beside its mask, in the forms that losses look at.

Shapes: B scans, C channels of logits (1 for binary masks, else one per class), K classes with background, F = K - 1
foreground classes, *spatial pixels or voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from octa_backend.inference.probability import class_probabilities


@dataclass(frozen=True)
class Comparison:
    """Logits and the mask they should give. Each form is computed once, when a loss first asks for it.

    Attributes:
        logits: float32, (B, C, *spatial).
        mask: class indices, (B, *spatial), int64; with one channel of logits 0 or 1 of any type.
    """

    logits: Tensor
    mask: Tensor

    @property
    def binary(self) -> bool:
        """Whether one channel of logits stands for foreground and background."""
        return self.logits.shape[1] == 1

    @property
    def classes(self) -> int:
        """K, with background."""
        return 2 if self.binary else self.logits.shape[1]

    @cached_property
    def probability(self) -> Tensor:
        """Float32, (B, K, *spatial): sigmoid and its rest, or softmax."""
        return class_probabilities(self.logits)

    @cached_property
    def foreground_probability(self) -> Tensor:
        """Float32, (B, F, *spatial)."""
        return self.logits.sigmoid() if self.binary else self.probability[:, 1:]

    @cached_property
    def one_hot(self) -> Tensor:
        """The mask as float32, (B, K, *spatial)."""
        return F.one_hot(self.mask.long(), self.classes).movedim(-1, 1).float()

    @cached_property
    def foreground(self) -> Tensor:
        """The mask's foreground classes as float32, (B, F, *spatial)."""
        return self.mask.unsqueeze(1).float() if self.binary else self.one_hot[:, 1:]

    @cached_property
    def cross_entropy(self) -> Tensor:
        """-log p of each pixel's true class, float32, (B, *spatial); finite for any finite logits."""
        if self.binary:
            return F.binary_cross_entropy_with_logits(self.logits, self.foreground, reduction="none")[:, 0]
        return F.cross_entropy(self.logits, self.mask, reduction="none")

    def by_class(self, values: tuple[float, ...]) -> Tensor:
        """A value per class, laid out as the mask: float32, (B, *spatial).

        Raises:
            ValueError: there is not one value for each class.
        """
        if len(values) != self.classes:
            raise ValueError(f"there are {len(values)} class weights but {self.classes} classes with background")
        return self.logits.new_tensor(values)[self.mask.long()]


def compare(logits_BC: Tensor, mask_B: Tensor) -> Comparison:
    """Logits (B, C, *spatial) of any float type beside class indices (B, *spatial), in float32 from here on.

    Raises:
        ValueError: the shapes do not fit (broadcasting would hide a bug).
    """
    if logits_BC.shape[:1] + logits_BC.shape[2:] != mask_B.shape:
        raise ValueError(f"logits are {tuple(logits_BC.shape)} but the mask is {tuple(mask_B.shape)}")
    return Comparison(logits_BC.to(torch.float32), mask_B)
