"""The foveal avascular zone (FAZ): the vessel-free region around the centre of a macular scan.

Shapes: (H, W) pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from skimage.measure import perimeter_crofton, regionprops

from octa_backend.inference.measurement import NotMeasurable

Mask = NDArray[np.bool_]

CENTRAL_PART = 1 / 6
"""The middle of the zone is looked for within this share of the shorter side around the picture's centre."""

LEAST_RADIUS = 3.0
"""Pixels. What is narrower is a gap between capillaries."""

SEALED_SHARE = 1 / 3
"""Gaps between vessels are closed up to this share of the zone's inner width, so that the zone does not leak out."""


@dataclass(frozen=True, slots=True)
class AvascularZone:
    """The zone and its shape.

    Attributes:
        region: bool, (H, W).
        centre: row and column of its centre of mass.
        area: px².
        perimeter: px.
        axial_ratio: long over short axis of the ellipse with the same second moments, 1 or more.
        solidity: area over the area of the convex hull, up to 1.
    """

    region: Mask
    centre: tuple[float, float]
    area: float
    perimeter: float
    axial_ratio: float
    solidity: float

    @property
    def circularity(self) -> float:
        """4π · area / perimeter²: 1 for a circle, less for any other shape."""
        return 4 * math.pi * self.area / self.perimeter**2

    @property
    def acircularity(self) -> float:
        """Perimeter over that of the circle of the same area: 1 for a circle, more for any other shape."""
        return self.perimeter / (2 * math.sqrt(math.pi * self.area))


def find_avascular_zone(vessels: Mask) -> AvascularZone:
    """Find the largest vessel-free region around the picture's centre.

    Its middle is the pixel of the central part that is furthest from any vessel, by a radius r. The region is what a
    disc of radius r/3 reaches from there without touching a vessel.

    Args:
        vessels: bool, (H, W).

    Raises:
        NotMeasurable: there are no vessels, no such region, or it reaches the border of the picture.
    """
    if not vessels.any():
        raise NotMeasurable("no_vessel")
    clearance = distance_transform_edt(~vessels)
    middle = _middle(clearance)
    radius = float(clearance[middle])
    if radius < LEAST_RADIUS:
        raise NotMeasurable("no_avascular_region")
    region = _reached(clearance, middle, radius * SEALED_SHARE)
    if region[[0, -1]].any() or region[:, [0, -1]].any():
        raise NotMeasurable("avascular_at_border")
    return _described(region)


def _middle(clearance: NDArray[np.float64]) -> tuple[int, int]:
    """The pixel of the central part with the most clearance, the nearest to the centre where several have it."""
    height, width = clearance.shape
    rows, columns = np.ogrid[:height, :width]
    from_centre = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    central = np.where(from_centre <= max(1.0, CENTRAL_PART * min(height, width)), clearance, -1.0)
    candidates = np.flatnonzero(central == central.max())
    row, column = np.unravel_index(candidates[np.argmin(from_centre.flat[candidates])], clearance.shape)
    return int(row), int(column)


def _reached(clearance: NDArray[np.float64], middle: tuple[int, int], disc: float) -> Mask:
    """What a disc covers whose middle moves from `middle` over pixels that are further than `disc` from vessels."""
    ways, _ = label(clearance > disc)
    way = ways == ways[middle]
    covered: Mask = distance_transform_edt(~way) <= disc
    return covered & (clearance > 0)


def _described(region: Mask) -> AvascularZone:
    [shape] = regionprops(region.astype(np.uint8))
    row, column = shape.centroid
    return AvascularZone(
        region=region,
        centre=(float(row), float(column)),
        area=float(shape.area),
        perimeter=float(perimeter_crofton(np.pad(shape.image, 1), directions=4)),
        axial_ratio=float(shape.axis_major_length / shape.axis_minor_length),
        solidity=float(shape.solidity),
    )
