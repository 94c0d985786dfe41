"""How large a pixel is, and in which units things are measured. Pixels are square."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from octa_backend.errors import InvalidScale

UM_PER_MM = 1000.0
LEAST_SIZE = {"pixel_size_um": 0.0001, "field_of_view_mm": 0.001}
"""An atom is as large; numbers below would overflow when they are squared."""
LARGEST_SIZE = {"pixel_size_um": 1000.0, "field_of_view_mm": 100.0}
"""Wider than any eye: a value above was given in another unit."""


class _Dimension(NamedTuple):
    power: int  # of length
    without_scale: str
    with_scale: str
    um_per_unit: float  # of the unit of length in `with_scale`


class Quantity(Enum):
    """What kind of number is measured, and its units."""

    RATIO = _Dimension(0, "1", "1", 1.0)
    CALIBRE = _Dimension(1, "px", "µm", 1.0)
    LENGTH = _Dimension(1, "px", "mm", UM_PER_MM)
    AREA = _Dimension(2, "px²", "mm²", UM_PER_MM)
    PER_LENGTH = _Dimension(-1, "1/px", "1/mm", UM_PER_MM)
    PER_AREA = _Dimension(-2, "1/px²", "1/mm²", UM_PER_MM)


@dataclass(frozen=True, slots=True)
class Scale:
    """The side of a pixel in µm, or None where it is not known and pixels are the unit."""

    pixel_size_um: float | None = None

    def unit(self, quantity: Quantity) -> str:
        """In which unit a quantity is told."""
        return quantity.value.without_scale if self.pixel_size_um is None else quantity.value.with_scale

    def value(self, pixels: float, quantity: Quantity) -> float:
        """A number in pixels (px, px², 1/px …), in that unit."""
        if self.pixel_size_um is None:
            return float(pixels)
        return float(pixels * (self.pixel_size_um / quantity.value.um_per_unit) ** quantity.value.power)


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What is measured of a mask.

    Attributes:
        pixel_size_um: side of a pixel in µm.
        field_of_view_mm: width of the scan in mm, in place of `pixel_size_um`.
        vessel_class: the class of the mask whose pixels are vessel.

    Raises:
        InvalidScale: both sizes are given, or one that no scan has.
    """

    pixel_size_um: float | None = None
    field_of_view_mm: float | None = None
    vessel_class: int = 1

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("pixel_size_um", "field_of_view_mm")}
        sizes = {name: size for name, size in given.items() if size is not None}
        if len(sizes) > 1:
            raise InvalidScale("pixel_size_um and field_of_view_mm both say how large a pixel is; send one of them")
        for name, size in sizes.items():
            least, largest = LEAST_SIZE[name], LARGEST_SIZE[name]
            if not least <= size <= largest:
                raise InvalidScale(f"{name}={size:g} is no size of a scan; it must be from {least:g} to {largest:g}")

    @property
    def are_known(self) -> bool:
        """Whether the size of a pixel is."""
        return self.pixel_size_um is not None or self.field_of_view_mm is not None

    def scale(self, width: int) -> Scale:
        """The scale of a scan that is `width` pixels wide."""
        if self.field_of_view_mm is not None:
            return Scale(self.field_of_view_mm * UM_PER_MM / width)
        return Scale(self.pixel_size_um)
