"""What the values of all masks of a dataset mean together: foreground and background, or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.pairing import Fault

MAX_CLASSES = 32
HIGHEST_CLASS_VALUE = 32
"""Class numbers may have gaps; a mask with a higher value is one with two values, or no mask at all."""

VOID_VALUE = 255
"""Beside class numbers it marks pixels of which graders could not tell what they are."""

_USUAL_FOREGROUND = {1, 255, 65535}


@dataclass(frozen=True, slots=True)
class MaskValues:
    """The values of one mask: how many different ones, the lowest `MAX_CLASSES + 1` of them, and the highest."""

    count: int
    lowest: tuple[int, ...]
    highest: int

    @property
    def is_empty(self) -> bool:
        """True where all pixels are background."""
        return self.lowest == (0,)

    @property
    def is_two_valued(self) -> bool:
        """True for 0 and at most one other value."""
        return self.count <= 1 or (self.count == 2 and self.lowest[0] == 0)

    @property
    def is_storable(self) -> bool:
        """True where all values fit uint16."""
        return self.lowest[0] >= 0 and self.highest <= np.iinfo(np.uint16).max


def values_of(mask_HW: NDArray[Any]) -> MaskValues:
    """The different values of one mask of whole numbers."""
    different = np.unique(mask_HW)
    return MaskValues(len(different), tuple(int(v) for v in different[: MAX_CLASSES + 1]), int(different[-1]))


def classes_of(masks: Mapping[str, MaskValues]) -> tuple[tuple[int, ...], list[Fault]]:
    """Decide over all masks of a dataset what their values mean.

    0 is background. Two values are foreground and background, whatever the other one is; masks with 0/1, 0/255 and
    0/65535 may be mixed. Else the values are class numbers up to `HIGHEST_CLASS_VALUE`, with or without gaps, and
    perhaps `VOID_VALUE`, which is the last class then.

    Args:
        masks: file -> its values.

    Returns:
        The value of class 0, 1, …, or nothing where the values make no sense together; and faults, one per file,
        where all masks are empty or none has background.
    """
    values = sorted(set().union(*(mask.lowest for mask in masks.values())))
    if not all(mask.is_storable for mask in masks.values()):
        return (), []
    if values == [0]:
        return (), [Fault("masks_all_empty", file) for file in masks]
    if 0 not in values and all(mask.count <= MAX_CLASSES for mask in masks.values()):
        return (), [Fault("masks_all_foreground", file, listed(mask)) for file, mask in masks.items()]
    return _two_classes(masks, values) or _numbered_classes(values) or _numbered_with_void(masks, values), []


def class_of_value(mask_values: Sequence[int]) -> NDArray[np.uint8]:
    """Class of every value that a mask can be kept with, (65536,); with two classes everything but 0 is foreground."""
    table = np.zeros(np.iinfo(np.uint16).max + 1, dtype=np.uint8)
    if len(mask_values) == 2:
        table[1:] = 1
    for number, value in enumerate(mask_values):
        table[value] = number
    return table


def shown_classes(mask_HW: NDArray[Any], mask_values: Sequence[int]) -> NDArray[np.uint8]:
    """A mask of stored values as class numbers, however faulty it is.

    Args:
        mask_HW: whole numbers, 0..65535.
        mask_values: the value of class 0, 1, … in the dataset; empty where the values make no sense together.

    Returns:
        uint8, (H, W): 0 and 1 where one of the mask's values is no class of the dataset. Where the dataset has no
        classes, a mask of values that could be class numbers keeps them.
    """
    different = values_of(mask_HW)
    if set(different.lowest) <= set(mask_values):
        found_HW: NDArray[np.uint8] = np.take(class_of_value(mask_values), mask_HW)
        return found_HW
    if not mask_values and not _is_high(different):
        return mask_HW.astype(np.uint8)
    return np.asarray(mask_HW != 0, np.uint8)


def spoilers(masks: Mapping[str, MaskValues]) -> list[str]:
    """The masks that keep the values from making sense together.

    Those with many values; where there are none, all that are not plain class numbers.
    """
    many = [file for file, mask in masks.items() if not mask.is_two_valued and _is_high(mask)]
    return many or [file for file, mask in masks.items() if _is_high(mask)] or list(masks)


def listed(mask: MaskValues) -> str:
    """The values in words: "256: 0, 1, 2, … 255"."""
    if mask.count <= 4:
        return f"{mask.count}: {', '.join(str(value) for value in mask.lowest)}"
    return f"{mask.count}: {', '.join(str(value) for value in mask.lowest[:3])}, … {mask.highest}"


def _two_classes(masks: Mapping[str, MaskValues], values: Sequence[int]) -> tuple[int, ...]:
    foreground = set(values) - {0}
    agree = len(foreground) == 1 or foreground <= _USUAL_FOREGROUND
    return (0, max(foreground)) if agree and all(mask.is_two_valued for mask in masks.values()) else ()


def _numbered_classes(values: Sequence[int]) -> tuple[int, ...]:
    fit = 0 in values and max(values) <= HIGHEST_CLASS_VALUE and len(values) <= MAX_CLASSES
    return tuple(values) if fit else ()


def has_void(values: Sequence[int]) -> bool:
    """Whether values in rising order are class numbers, 1 among them, and `VOID_VALUE`."""
    return values[-1] == VOID_VALUE and 1 in values and bool(_numbered_classes(values[:-1]))


def _numbered_with_void(masks: Mapping[str, MaskValues], values: Sequence[int]) -> tuple[int, ...]:
    """Half of the masks must have class numbers: a few dark pixels in masks of 0 and 255 are a fault, and no class."""
    numbered = sum(any(0 < value < VOID_VALUE for value in mask.lowest) for mask in masks.values())
    fit = has_void(values) and len(values) <= MAX_CLASSES and 2 * numbered >= len(masks)
    return tuple(values) if fit else ()


def _is_high(mask: MaskValues) -> bool:
    return mask.count > MAX_CLASSES or mask.lowest[0] < 0 or mask.highest > HIGHEST_CLASS_VALUE
