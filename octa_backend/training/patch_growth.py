"""Patches that grow as a run goes on: small ones cost little, and what is local is learnt on them first.

Source: S. M. Fischer et al., Progressive Growing of Patch Size, MICCAI 2024 (arXiv:2407.07853). There patches grow over
the whole run, by the least that a network allows; here they are whole after a fifth of it, see docs/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from octa_backend.training.network_plan import halvings
from octa_backend.training.patch_plan import LEAST_OPEN_PATCH, PICTURE_MULTIPLE
from octa_backend.training.volume_plan import Shape

QUARTERS = (2, 3, 4)
"""Of the sides of a whole patch, stage by stage."""

SHARE = 10
"""Each stage before the last one takes the so-manyth part of the epochs."""
FEWEST_EPOCHS = 6
"""Of a run whose patches grow unasked; fewer do not come to all sizes."""

LEAST_HALVED = 2
"""Voxels along an axis that the deepest level has at least, as statistics of a single one have no spread."""


@dataclass(frozen=True, slots=True)
class PatchGrowth:
    """The patches of a run, epoch by epoch.

    Attributes:
        whole: shape of the largest ones, (H, W) or (D, H, W), with which the run ends.
        multiples: what every side is a multiple of, along each axis; where it is the whole side, patches do not grow.
        epochs: of the run.
    """

    whole: Shape
    multiples: Shape
    epochs: int

    @classmethod
    def to(cls, whole: Shape, spacing: Sequence[float], epochs: int) -> PatchGrowth:
        """Growth to patches of this shape, in pixels, or in voxels whose sides are `spacing` (empty: all alike)."""
        of_picture = (PICTURE_MULTIPLE,) * len(whole)
        return cls(whole, of_picture if len(whole) == 2 else halvings(whole, spacing), epochs)

    @classmethod
    def none(cls, whole: Shape, epochs: int) -> PatchGrowth:
        """Whole patches in all epochs."""
        return cls(whole, whole, epochs)

    def shape_in(self, epoch: int) -> Shape:
        """The shape of an epoch's patches: half the sides for a tenth of the run, then three quarters, then whole.

        Args:
            epoch: from 1. The last one always has whole patches.
        """
        stage = min(SHARE * (epoch - 1) // self.epochs, len(QUARTERS) - 1)
        return self.whole if epoch == self.epochs else self._stage(QUARTERS[stage])

    def stages(self) -> list[Shape]:
        """The different shapes that the epochs have, smallest first."""
        return list(dict.fromkeys(self.shape_in(epoch) for epoch in range(1, self.epochs + 1)))

    @property
    def smallest(self) -> Shape:
        """The shape that a run of enough epochs begins with."""
        return self._stage(QUARTERS[0])

    def mean_share(self) -> float:
        """Pixels that an epoch computes in the mean over the run, as a share of those of whole patches."""
        return self._pixels_after(0) / (self.epochs * math.prod(self.whole))

    def work_after(self, epoch: int) -> float:
        """Pixels of all later epochs, as a multiple of those of this one."""
        return self._pixels_after(epoch) / math.prod(self.shape_in(epoch))

    def share_done(self, epoch: int, part: float) -> float:
        """Share of the pixels of the whole run that are done once this part (0 to 1) of an epoch is."""
        done = self._pixels_after(0) - self._pixels_after(epoch) - (1 - part) * math.prod(self.shape_in(epoch))
        return done / self._pixels_after(0)

    def _pixels_after(self, epoch: int) -> int:
        return sum(math.prod(self.shape_in(later)) for later in range(epoch + 1, self.epochs + 1))

    def _stage(self, quarters: int) -> Shape:
        return tuple(
            min(side, max(LEAST_HALVED, -(-side * quarters // (QUARTERS[-1] * one))) * one)
            for side, one in zip(self.whole, self.multiples, strict=True)
        )


def choose_growth(growth: PatchGrowth, fast: bool) -> tuple[str, str]:
    """Whether patches grow, where that is left open, and why.

    Args:
        growth: as it would be.
        fast: whether the device is a GPU or computes quickly in half precision.
    """
    first = growth.stages()[0]
    if len(first) == 3:
        return "off", "it was not measured on volumes; `on` begins with smaller ones"
    if fast:
        return "off", "it was not measured on a fast device; `on` begins with smaller patches"
    if growth.smallest == growth.whole:
        return "off", f"patches of {'x'.join(map(str, first))} pixels cannot be halved"
    if min(first) < LEAST_OPEN_PATCH:
        sides = "x".join(map(str, first))
        return "off", f"patches of {sides} pixels, half the sides, would show too little of what surrounds a structure"
    if growth.epochs < FEWEST_EPOCHS:
        return "off", f"a run of {growth.epochs} epochs is too short for patches of {len(QUARTERS)} sizes"
    return "on", f"{in_words(growth)}; small ones cost little while the network learns what is local"


def in_words(growth: PatchGrowth) -> str:
    """What a plan says of patches that shall grow."""
    if growth.epochs == 1:
        return "this has no effect: the last epoch, here the only one, has whole patches"
    if len(growth.stages()) == 1:
        return f"this has no effect: patches of {'x'.join(map(str, growth.whole))} cannot be halved"
    *small, whole = ("x".join(map(str, stage)) for stage in growth.stages())
    return f"patches of {' and '.join(small)} for a tenth of the epochs each, one at least, then of {whole}"
