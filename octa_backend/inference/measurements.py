"""Everything that is measured of a vessel mask. The definitions stand in docs/api.md.

Shapes: (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.avascular_zone import AvascularZone, find_avascular_zone
from octa_backend.inference.fractal import BoxCount, box_count
from octa_backend.inference.measurement import Measurement, NotMeasurable
from octa_backend.inference.retinal_zones import ETDRS_NAMES, QUADRANT_NAMES, zone_densities
from octa_backend.inference.scale import MeasureOptions, Quantity, Scale
from octa_backend.inference.tortuosity import Tortuosity, tortuosity
from octa_backend.inference.vessel_skeleton import Mask
from octa_backend.inference.vessel_tree import VesselTree, grow_tree

Part = TypeVar("Part")

TREE: Mapping[str, Quantity] = {
    "skeleton_length": Quantity.LENGTH,
    "skeleton_length_density": Quantity.PER_LENGTH,
    "calibre_mean": Quantity.CALIBRE,
    "calibre_median": Quantity.CALIBRE,
    "branch_points": Quantity.RATIO,
    "branch_point_density": Quantity.PER_AREA,
    "end_points": Quantity.RATIO,
    "end_point_density": Quantity.PER_AREA,
}
GLOBAL_CALIBRE: Mapping[str, Quantity] = {"calibre_global": Quantity.CALIBRE}
BOXES: Mapping[str, Quantity] = {"fractal_dimension": Quantity.RATIO, "fractal_dimension_r2": Quantity.RATIO}
SKELETON_BOXES: Mapping[str, Quantity] = {f"skeleton_{name}": quantity for name, quantity in BOXES.items()}
WINDING: Mapping[str, Quantity] = {
    "tortuosity_segments": Quantity.RATIO,
    "tortuosity_arc_chord_mean": Quantity.RATIO,
    "tortuosity_arc_chord_median": Quantity.RATIO,
    "tortuosity_curvature_mean": Quantity.PER_LENGTH,
    "tortuosity_curvature_median": Quantity.PER_LENGTH,
    "tortuosity_density_mean": Quantity.PER_LENGTH,
    "tortuosity_density_median": Quantity.PER_LENGTH,
}
ZONE: Mapping[str, Quantity] = {
    "faz_area": Quantity.AREA,
    "faz_perimeter": Quantity.LENGTH,
    "faz_circularity": Quantity.RATIO,
    "faz_acircularity": Quantity.RATIO,
    "faz_axial_ratio": Quantity.RATIO,
    "faz_solidity": Quantity.RATIO,
}
DENSITIES: Mapping[str, Quantity] = dict.fromkeys((*ETDRS_NAMES, *QUADRANT_NAMES), Quantity.RATIO)
QUANTITIES: Mapping[str, Quantity] = {
    "vessel_area_density": Quantity.RATIO,
    **TREE,
    **GLOBAL_CALIBRE,
    **BOXES,
    **SKELETON_BOXES,
    **WINDING,
    **ZONE,
    **DENSITIES,
}
"""Every measurement and what kind of number it is, in the order of the answer."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a mask, or why a part of it could not be.

    Attributes:
        values: by the names of `QUANTITIES`, all of them.
        scale: of the scan.
        vessels: bool, (H, W), the mask.
        tree: centre lines.
        winding: of the segments that are long enough.
        zone: the foveal avascular zone.
    """

    values: Mapping[str, Measurement]
    scale: Scale
    vessels: Mask
    tree: VesselTree | NotMeasurable
    winding: Tortuosity | NotMeasurable
    zone: AvascularZone | NotMeasurable


def measure(mask: NDArray[np.uint8], classes: int, options: MeasureOptions) -> Measured:
    """Measure the vessels of a mask.

    Args:
        mask: (H, W), class indices.
        classes: of the model, with background.
        options: the scale, and which class is vessel. Where the model has no such class, nothing is measured.
    """
    scale = options.scale(mask.shape[1])
    vessels = mask == options.vessel_class
    if options.vessel_class < classes:
        return measure_vessels(vessels, scale)
    refusal = NotMeasurable("no_such_class")
    return Measured(_missing(QUANTITIES, scale, refusal), scale, vessels, refusal, refusal, refusal)


def measure_vessels(vessels: Mask, scale: Scale) -> Measured:
    """Measure a binary mask, bool (H, W)."""
    tree = _tried(lambda: grow_tree(vessels))
    winding = _after(tree, lambda grown: tortuosity(grown.segments))
    zone = _tried(lambda: find_avascular_zone(vessels))
    values = {
        "vessel_area_density": Measurement(float(vessels.mean()), "1"),
        **_told(TREE, scale, tree, _tree_numbers),
        **_told(GLOBAL_CALIBRE, scale, _after(tree, VesselTree.global_calibre), lambda calibre: (calibre,)),
        **_told(BOXES, scale, _tried(lambda: box_count(vessels)), _box_numbers),
        **_told(SKELETON_BOXES, scale, _after(tree, lambda grown: box_count(grown.skeleton)), _box_numbers),
        **_told(WINDING, scale, winding, _winding_numbers),
        **_told(ZONE, scale, zone, _zone_numbers),
        **_zone_densities(vessels, scale, zone),
    }
    return Measured({name: values[name] for name in QUANTITIES}, scale, vessels, tree, winding, zone)


def _tried(find: Callable[[], Part]) -> Part | NotMeasurable:
    try:
        return find()
    except NotMeasurable as refusal:
        return refusal


Source = TypeVar("Source")


def _after(source: Source | NotMeasurable, find: Callable[[Source], Part]) -> Part | NotMeasurable:
    """What is found with a part of the mask; its refusal where there is none."""
    return source if isinstance(source, NotMeasurable) else _tried(lambda: find(source))


def _told(
    quantities: Mapping[str, Quantity],
    scale: Scale,
    part: Part | NotMeasurable,
    numbers: Callable[[Part], tuple[float, ...]],
) -> dict[str, Measurement]:
    """What `numbers` tells of a part of the mask, in pixels and in the order of `quantities`, brought to its units."""
    if isinstance(part, NotMeasurable):
        return _missing(quantities, scale, part)
    return {
        name: Measurement(scale.value(number, quantity), scale.unit(quantity))
        for (name, quantity), number in zip(quantities.items(), numbers(part), strict=True)
    }


def _missing(quantities: Mapping[str, Quantity], scale: Scale, refusal: NotMeasurable) -> dict[str, Measurement]:
    return {name: Measurement(None, scale.unit(quantity), refusal.reason) for name, quantity in quantities.items()}


def _tree_numbers(tree: VesselTree) -> tuple[float, ...]:
    area, branches, ends = tree.vessels.size, len(tree.branch_points), len(tree.end_points)
    mean, median = float(tree.calibres.mean()), float(np.median(tree.calibres))
    return (tree.length, tree.length / area, mean, median, branches, branches / area, ends, ends / area)


def _box_numbers(fitted: BoxCount) -> tuple[float, ...]:
    return (fitted.dimension, fitted.r_squared)


def _winding_numbers(winding: Tortuosity) -> tuple[float, ...]:
    each = (winding.arc_chord, winding.curvature, winding.density)
    summaries = [(float(numbers.mean()), float(np.median(numbers))) for numbers in each]
    return (len(winding.segments), *(number for pair in summaries for number in pair))


def _zone_numbers(zone: AvascularZone) -> tuple[float, ...]:
    return (zone.area, zone.perimeter, zone.circularity, zone.acircularity, zone.axial_ratio, zone.solidity)


def _zone_densities(vessels: Mask, scale: Scale, zone: AvascularZone | NotMeasurable) -> dict[str, Measurement]:
    if isinstance(zone, NotMeasurable):
        return _missing(DENSITIES, scale, zone)
    return zone_densities(vessels, zone.centre, scale.pixel_size_um)
