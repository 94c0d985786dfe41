"""A batch's logits beside its mask, in the forms that losses look at.

Shapes: B scans, C channels of logits (1 for binary masks, one per region, else one per class), K classes with
background, F = K - 1 foreground classes or regions, *spatial pixels or voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from octa_backend.inference.probability import class_probabilities
from octa_backend.training.ignored import IGNORED


@dataclass(frozen=True)
class Comparison:
    """Logits and the mask they should give. Each form is computed once, when a loss first asks for it.

    Where `counted` is 0, probabilities, masks, weights and the cross-entropy are 0: such a pixel is in no sum.

    Attributes:
        logits: float32, (B, C, *spatial).
        mask: class indices, (B, *spatial), int64; with one channel of logits 0 or 1 of any type; 0 where ignored.
        counted: float32, (B, *spatial), 0 where a pixel is ignored, else 1; None where all count.
        regions: the classes that each channel of logits stands for, where they are regions; they may overlap. There is
            then no probability of each class, and no cross-entropy between them.
        gap: float32, (B, *spatial), the widths of the gaps between objects where they are known; see `gap_widths`.
    """

    logits: Tensor
    mask: Tensor
    counted: Tensor | None = None
    regions: tuple[tuple[int, ...], ...] = ()
    gap: Tensor | None = None
    _of_mask: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def beside(self, logits: Tensor) -> Comparison:
        """Other logits (B, C, *spatial) of the same mask, whose forms are not computed again."""
        return replace(self, logits=logits.to(torch.float32))

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Something that depends on the mask alone, made once for all logits that are compared with it."""
        if name not in self._of_mask:
            self._of_mask[name] = make()
        return self._of_mask[name]

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
        return self._where_counted(class_probabilities(self.logits))

    @cached_property
    def foreground_probability(self) -> Tensor:
        """Float32, (B, F, *spatial)."""
        if self.binary or self.regions:
            return self._where_counted(self.logits.sigmoid())
        return self.probability[:, 1:]

    @property
    def one_hot(self) -> Tensor:
        """The mask as float32, (B, K, *spatial)."""
        return self.once("one_hot", self._one_hot)

    @property
    def foreground(self) -> Tensor:
        """The mask's foreground classes, or its regions, as float32, (B, F, *spatial)."""
        if self.regions:
            return self.once("foreground", self._of_regions)
        if self.binary:
            return self.once("foreground", lambda: self.mask.unsqueeze(1).float())
        return self.one_hot[:, 1:]

    @cached_property
    def cross_entropy(self) -> Tensor:
        """-log p of each pixel's true class, float32, (B, *spatial); finite for any finite logits."""
        if self.binary:
            each = F.binary_cross_entropy_with_logits(self.logits, self.foreground, reduction="none")[:, 0]
        else:
            each = F.cross_entropy(self.logits, self.mask, reduction="none")
        return each if self.counted is None else each * self.counted

    def by_class(self, values: tuple[float, ...]) -> Tensor:
        """A value per class, laid out as the mask: float32, (B, *spatial).

        Raises:
            ValueError: there is not one value for each class.
        """
        if len(values) != self.classes:
            raise ValueError(f"there are {len(values)} class weights but {self.classes} classes with background")
        each = self.logits.new_tensor(values)[self.mask.long()]
        return each if self.counted is None else each * self.counted

    def mean(self, each: Tensor) -> Tensor:
        """The mean of values (B, *spatial) over the pixels that count; 0 where none does."""
        if self.counted is None:
            return each.mean()
        return (each * self.counted).sum() / self.counted.sum().clamp_min(1)

    def _one_hot(self) -> Tensor:
        # Not by F.one_hot, whose integers take twice the room of what is wanted, beside it.
        empty = self.logits.new_zeros(len(self.mask), self.classes, *self.mask.shape[1:], dtype=torch.float32)
        return self._where_counted(empty.scatter_(1, self.mask.long()[:, None], 1.0))

    def _of_regions(self) -> Tensor:
        found = [torch.isin(self.mask, self.mask.new_tensor(classes)) for classes in self.regions]
        return self._where_counted(torch.stack(found, dim=1).float())

    def _where_counted(self, each_BC: Tensor) -> Tensor:
        return each_BC if self.counted is None else each_BC * self.counted.unsqueeze(1)


def compare(
    logits_BC: Tensor,
    mask_B: Tensor,
    *,
    ignores: bool = False,
    regions: tuple[tuple[int, ...], ...] = (),
    gap_B: Tensor | None = None,
) -> Comparison:
    """Logits (B, C, *spatial) of any float type beside class indices (B, *spatial), in float32 from here on.

    Args:
        logits_BC: of a network.
        mask_B: what they should give.
        ignores: whether the mask may hold `IGNORED`; looking for it would make a GPU wait.
        regions, gap_B: see `Comparison`.

    Raises:
        ValueError: the shapes do not fit (broadcasting would hide a bug).
    """
    if logits_BC.shape[:1] + logits_BC.shape[2:] != mask_B.shape:
        raise ValueError(f"logits are {tuple(logits_BC.shape)} but the mask is {tuple(mask_B.shape)}")
    if regions and logits_BC.shape[1] != len(regions):
        raise ValueError(f"logits are {tuple(logits_BC.shape)} but there are {len(regions)} regions")
    if not ignores:
        return Comparison(logits_BC.to(torch.float32), mask_B, regions=regions, gap=gap_B)
    counted = mask_B != IGNORED
    return Comparison(logits_BC.to(torch.float32), mask_B.where(counted, 0), counted.float(), regions, gap_B)
