"""The eight ways to lay a picture: right-angle turns, with and without a flip (the dihedral group of the square).

Shapes: H x W pixels, behind any other axes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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
IDENTITY = SYMMETRIES[0]
