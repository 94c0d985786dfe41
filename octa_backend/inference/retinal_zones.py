"""How much vessel there is in zones around the fovea: the ETDRS rings with their quadrants, and whole quadrants.

Quadrants are named by the sides of the picture, because nasal and temporal depend on which eye it is. Their borders
are the diagonals through the centre.

Shapes: (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import pi

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.measurement import Measurement
from octa_backend.inference.scale import UM_PER_MM

Mask = NDArray[np.bool_]

RINGS_MM: Mapping[str, tuple[float, float]] = {"centre": (0.0, 0.5), "inner": (0.5, 1.5), "outer": (1.5, 3.0)}
"""Inner and outer radius of each ring (ETDRS Research Group, Report 10, Ophthalmology 98(5 Suppl), 1991)."""

QUADRANTS = ("superior", "inferior", "left", "right")

LEAST_COVERED = 0.75
"""The share of a zone's area that must lie in the picture."""

ETDRS_NAMES = (
    "etdrs_centre",
    *(f"etdrs_{ring}{part}" for ring in ("inner", "outer") for part in ("", *(f"_{side}" for side in QUADRANTS))),
)
QUADRANT_NAMES = tuple(f"quadrant_{side}" for side in QUADRANTS)


def zone_densities(vessels: Mask, centre: tuple[float, float], pixel_size_um: float | None) -> dict[str, Measurement]:
    """Vessel area density of each zone, `ETDRS_NAMES` and `QUADRANT_NAMES`.

    Args:
        vessels: bool, (H, W).
        centre: row and column of the fovea.
        pixel_size_um: without it the rings, which are defined in millimetres, have no place.
    """
    from_centre, quadrant = _polar(vessels.shape, centre)
    found = {name: _density(vessels, quadrant == place) for place, name in enumerate(QUADRANT_NAMES)}
    if pixel_size_um is None:
        return found | {name: Measurement(None, "1", "no_scale") for name in ETDRS_NAMES}
    per_mm = UM_PER_MM / pixel_size_um
    for ring, (inner, outer) in RINGS_MM.items():
        in_ring = (from_centre >= inner * per_mm) & (from_centre < outer * per_mm)
        area = pi * (outer**2 - inner**2) * per_mm**2
        for part, zone, share in _parts(in_ring, quadrant, whole=ring == "centre"):
            found[f"etdrs_{ring}{part}"] = _density(vessels, zone, area * share)
    return found


def _parts(ring: Mask, quadrant: NDArray[np.intp], *, whole: bool) -> Iterator[tuple[str, Mask, float]]:
    """A ring and its quadrants, each with the end of its name and its share of the ring's area."""
    yield "", ring, 1.0
    for place, side in enumerate(() if whole else QUADRANTS):
        yield f"_{side}", ring & (quadrant == place), 1 / len(QUADRANTS)


def _polar(shape: tuple[int, ...], centre: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distance to the centre in pixels, and the place in `QUADRANTS`, of each pixel."""
    down = np.arange(shape[0])[:, None] - centre[0]
    right = np.arange(shape[1])[None, :] - centre[1]
    vertical = np.abs(down) >= np.abs(right)
    quadrant = np.where(vertical, np.where(down < 0, 0, 1), np.where(right < 0, 2, 3))
    return np.hypot(down, right), quadrant


def _density(vessels: Mask, zone: Mask, full_area: float | None = None) -> Measurement:
    """Vessel pixels over pixels of the zone; none where too little of `full_area`, in pixels, is in the picture."""
    pixels = int(np.count_nonzero(zone))
    if pixels == 0 or (full_area is not None and pixels < LEAST_COVERED * full_area):
        return Measurement(None, "1", "zone_outside")
    return Measurement(int(np.count_nonzero(vessels & zone)) / pixels, "1")
