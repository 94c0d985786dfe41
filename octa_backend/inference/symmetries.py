"""The views that `tta` averages over.

The eight ways to lay a picture are right-angle turns, with and without a flip (the dihedral group of the square);
those of a volume are flips along its axes, no turns, because voxels and patches need not be cubes. A network that has
learnt that masks lie beside what they show, see `training.mask_offset`, would draw on the other side in most of them;
only those are left in which it does not.

Shapes: C channels, K classes; H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from octa_backend.training.mask_offset import MaskOffset

_PLANE = (-2, -1)


class Symmetry(NamedTuple):
    """A flip of the columns or none, then so many quarter turns; odd ones exchange height and width."""

    flipped: bool
    quarter_turns: int

    def apply(self, picture: Tensor) -> Tensor:
        """The picture (…, H, W) laid so; (…, W, H) after an odd number of turns."""
        return torch.rot90(picture.flip(-1) if self.flipped else picture, self.quarter_turns, _PLANE)

    def undo(self, laid: Tensor) -> Tensor:
        """What was laid so, back as it was."""
        turned = torch.rot90(laid, -self.quarter_turns, _PLANE)
        return turned.flip(-1) if self.flipped else turned


SYMMETRIES = tuple(Symmetry(flipped, turns) for flipped in (False, True) for turns in range(4))
AS_IT_LIES, LEFT_TO_RIGHT, TOP_TO_BOTTOM = Symmetry(False, 0), Symmetry(True, 0), Symmetry(True, 2)

FLIPS = tuple(tuple(axis for axis, flipped in zip((2, 3, 4), which, strict=True) if flipped)
              for which in product((False, True), repeat=3))  # fmt: skip
"""Along which axes of (1, C, D, H, W), for each view; the first one is along none."""


def symmetries_for(card: Mapping[str, Any]) -> tuple[Symmetry, ...]:
    """The ways to lay a picture for a model: all eight, or those that keep masks on their side.

    Args:
        card: of the model.
    """
    fingerprint = card.get("plan", {}).get("fingerprint") or {}
    measured = fingerprint.get("mask_offset")
    offset = MaskOffset.model_validate(measured) if measured else None
    if offset is None or not offset.is_beside:
        return SYMMETRIES
    mirrored = () if offset.beside_rows else (TOP_TO_BOTTOM,)
    return (AS_IT_LIES, *mirrored, *(() if offset.beside_columns else (LEFT_TO_RIGHT,)))


def mean_over_symmetries(
    answer: Callable[[Tensor], Tensor], picture_1CHW: Tensor, symmetries: Sequence[Symmetry]
) -> Tensor:
    """What `answer` says of a picture, (K, H, W), as the mean over these ways to lay it."""
    views = (symmetry.undo(answer(symmetry.apply(picture_1CHW).contiguous())) for symmetry in symmetries)
    return torch.stack(list(views)).mean(0)


def mean_over_flips(network: Callable[[Tensor], Tensor], tile_1C: Tensor) -> Tensor:
    """What a network says of a tile of a volume, (1, K, D, H, W), as the mean over its eight flips."""
    total = network(tile_1C)
    for axes in FLIPS[1:]:
        total = total + network(tile_1C.flip(axes).contiguous()).flip(axes)
    return total / len(FLIPS)
