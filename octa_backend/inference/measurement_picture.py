"""What was measured, drawn onto the scan: centre lines, branch and end points, and the foveal avascular zone.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw
from scipy.ndimage import binary_erosion

from octa_backend.inference.comparison_picture import rgb
from octa_backend.inference.measurement import NotMeasurable
from octa_backend.inference.measurements import Measured
from octa_backend.inference.vessel_skeleton import Mask
from octa_backend.inference.vessel_tree import VesselTree

LONGEST = 1200  # pixels of the picture's longer side, about; scans are enlarged by a whole number

CENTRE_LINE = "#ffcc00"
BRANCH_POINT = "#ff3b30"
END_POINT = "#5ac8fa"
ZONE = "#34c759"
VESSEL = "#0a84ff"

VESSEL_SHARE = 0.6  # of the vessel's colour over the scan
ZONE_SHARE = 0.25
DOT_RADIUS = 0.9  # scan pixels


def measurement_picture(image: NDArray[np.float32], measured: Measured) -> NDArray[np.uint8]:
    """Draw what was measured.

    Args:
        image: (C, H, W) in 0..1, one or three channels.
        measured: of the same scan.

    Returns:
        uint8, (kH, kW, 3): the scan k times as large, vessels tinted blue, centre lines yellow, branch points red, end
        points light blue, the avascular zone green. What could not be measured is not drawn.
    """
    factor = max(1, LONGEST // max(image.shape[-2:]))
    tinted = _tinted(rgb(image), measured.vessels, VESSEL, VESSEL_SHARE)
    if not isinstance(measured.zone, NotMeasurable):
        tinted = _tinted(tinted, measured.zone.region, ZONE, ZONE_SHARE)
    picture = np.repeat(np.repeat(tinted, factor, axis=0), factor, axis=1)
    if not isinstance(measured.zone, NotMeasurable):
        large = np.repeat(np.repeat(measured.zone.region, factor, axis=0), factor, axis=1)
        picture[large & ~binary_erosion(large, iterations=2)] = ImageColor.getrgb(ZONE)
    drawn = Image.fromarray(picture)
    if not isinstance(measured.tree, NotMeasurable):
        _draw_tree(ImageDraw.Draw(drawn), measured.tree, factor)
    return np.asarray(drawn)


def _draw_tree(pen: ImageDraw.ImageDraw, tree: VesselTree, factor: int) -> None:
    places = _enlarged(tree.segments.points, factor)
    for start, end in zip(tree.segments.offsets[:-1], tree.segments.offsets[1:], strict=True):
        if end - start > 1:
            pen.line(places[start:end], fill=CENTRE_LINE, width=max(1, factor - 1))
    for points, colour in ((tree.end_points, END_POINT), (tree.branch_points, BRANCH_POINT)):
        for column, row in _enlarged(points, factor):
            pen.circle((column, row), max(1.0, DOT_RADIUS * factor), fill=colour)


def _enlarged(points: NDArray[np.number], factor: int) -> Sequence[tuple[float, float]]:
    """Column and row in the picture of rows and columns of the scan, (N, 2)."""
    return [(float(column), float(row)) for row, column in (points + 0.5) * factor]


def _tinted(picture: NDArray[np.uint8], where: Mask, colour: str, share: float) -> NDArray[np.uint8]:
    tinted = picture.copy()
    tint = np.array(ImageColor.getrgb(colour))
    tinted[where] = np.rint((1 - share) * picture[where] + share * tint)
    return tinted
