"""What is tidied up in a mask: in pixels, or in µm² where the size of a pixel is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from octa_backend.errors import InvalidOptions, InvalidScale
from octa_backend.inference.scale import MeasureOptions


@dataclass(frozen=True, slots=True)
class CleanOptions:
    """Which objects and holes go; None: none.

    Attributes:
        min_object_px: objects of fewer pixels become background.
        min_object_um2: objects of a smaller area, in its place.
        max_hole_px: holes of at most so many pixels are filled.
        max_hole_um2: holes of at most this area, in its place.
        sizes: how large a pixel is.

    Raises:
        InvalidOptions: a limit is given in both units, or is not above 0.
        InvalidScale: a limit is in µm², but the size of a pixel is not known.
    """

    min_object_px: float | None = None
    min_object_um2: float | None = None
    max_hole_px: float | None = None
    max_hole_um2: float | None = None
    sizes: MeasureOptions = field(default_factory=MeasureOptions)

    def __post_init__(self) -> None:
        for name in ("min_object_px", "min_object_um2", "max_hole_px", "max_hole_um2"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise InvalidOptions(f"{name}={limit:g} is no area; it must be above 0")
        for name in ("min_object", "max_hole"):
            if getattr(self, f"{name}_px") is not None and getattr(self, f"{name}_um2") is not None:
                raise InvalidOptions(f"{name}_px and {name}_um2 are the same limit in two units; send one of them")
        names = [name for name in ("min_object_um2", "max_hole_um2") if getattr(self, name) is not None]
        if names and not self.sizes.are_known:
            in_pixels = " and ".join(name.replace("um2", "px") for name in names)
            raise InvalidScale(
                f"{' and '.join(names)}: an area in µm² needs the size of a pixel; send pixel_size_um or "
                f"field_of_view_mm too, or {in_pixels}"
            )

    @property
    def asks_for_something(self) -> bool:
        """Whether anything is to be tidied up."""
        limits = (self.min_object_px, self.min_object_um2, self.max_hole_px, self.max_hole_um2)
        return any(limit is not None for limit in limits)

    def limits(self, width: int) -> tuple[float, float]:
        """The least area of an object, and the largest of a hole that is filled, of a scan `width` pixels wide.

        Returns:
            In px²; 0 where nothing is to go.
        """
        pixel_um2 = (self.sizes.scale(width).pixel_size_um or 1.0) ** 2
        smallest = self.min_object_px if self.min_object_um2 is None else self.min_object_um2 / pixel_um2
        largest = self.max_hole_px if self.max_hole_um2 is None else self.max_hole_um2 / pixel_um2
        return smallest or 0.0, largest or 0.0
