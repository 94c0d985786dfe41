"""Small objects and holes of a mask, taken away.

Shapes: H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

_DIAGONALS_TOO = np.ones((3, 3), dtype=bool)  # an object's pixels may touch at corners; a hole's touch along sides


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A mask without its small parts.

    Attributes:
        mask: uint8, (H, W), class indices.
        objects_removed: how many objects became background.
        holes_filled: how many holes became foreground.
    """

    mask: NDArray[np.uint8]
    objects_removed: int
    holes_filled: int


def clean(mask: NDArray[np.uint8], smallest_object: float, largest_hole: float) -> Cleaned:
    """Remove small objects of each foreground class, then fill its small holes.

    An object is a part of one class, connected over sides and corners. A hole is background, connected over sides, that
    one class surrounds: it touches neither the border nor another class. Objects go first, so that specks inside a hole
    do not make it smaller.

    Args:
        mask: class indices, (H, W). It is not changed.
        smallest_object: objects of fewer pixels become background; 0 removes none.
        largest_hole: holes of at most so many pixels become the class around them; 0 fills none.
    """
    cleaned, objects, holes = mask.copy(), 0, 0
    for index in np.unique(mask[mask > 0]):
        small, count = _small_objects(cleaned == index, smallest_object)
        cleaned[small] = 0
        objects += count
    for index in np.unique(cleaned[cleaned > 0]):
        filled, count = _small_holes(cleaned, int(index), largest_hole)
        cleaned[filled] = index
        holes += count
    return Cleaned(cleaned, objects, holes)


def _small_objects(inside: NDArray[np.bool_], smallest: float) -> tuple[NDArray[np.bool_], int]:
    """The pixels of small objects, and how many objects these are."""
    parts, _ = label(inside, structure=_DIAGONALS_TOO)
    areas = np.bincount(parts.ravel())
    small = areas < smallest
    small[0] = False
    return small[parts], int(small.sum())


def _small_holes(mask: NDArray[np.uint8], index: int, largest: float) -> tuple[NDArray[np.bool_], int]:
    """The pixels of small holes of a class, and how many holes these are."""
    parts, count = label(mask != index)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    small = areas <= largest
    border = np.concatenate((parts[0], parts[-1], parts[:, 0], parts[:, -1]))
    small[border] = False
    small[parts[(mask != index) & (mask != 0)]] = False  # another class lies inside
    small[0] = False
    return small[parts], int(small.sum())
