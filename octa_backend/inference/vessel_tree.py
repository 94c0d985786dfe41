"""The tree of vessels in a mask: its centre lines with their segments, branch points, ends and widths.

Shapes: (H, W) pixels; N pixels of the centre line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octa_backend.inference.measurement import NotMeasurable
from octa_backend.inference.vessel_calibre import calibres, edge_distance
from octa_backend.inference.vessel_segments import Segments, traced, without_spurs
from octa_backend.inference.vessel_skeleton import Mask, end_points, pixel_graph
from octa_backend.training.skeleton import skeletonize


@dataclass(frozen=True, slots=True)
class VesselTree:
    """What the centre lines of a mask tell.

    Attributes:
        vessels: bool, (H, W), the mask.
        skeleton: bool, (H, W), the centre lines without the twigs that bumpy outlines leave.
        segments: the stretches between branch and end points.
        branch_points: row and column, (B, 2).
        end_points: row and column, (E, 2); where a vessel leaves the picture is no end.
        calibres: width of the vessel at each pixel of the skeleton, px, (N,).
    """

    vessels: Mask
    skeleton: Mask
    segments: Segments
    branch_points: NDArray[np.float64]
    end_points: NDArray[np.intp]
    calibres: NDArray[np.float64]

    @property
    def length(self) -> float:
        """Of all segments together, px."""
        return float(self.segments.lengths.sum())

    def global_calibre(self) -> float:
        """Vessel area over the length of the centre lines, px.

        Raises:
            NotMeasurable: the centre lines are single pixels.

        Source:
            Z. Chu et al., J. Biomed. Opt. 21(6), 066008, 2016: vessel diameter index.
        """
        if not self.length:
            raise NotMeasurable("no_centre_line")
        return float(np.count_nonzero(self.vessels)) / self.length


def grow_tree(vessels: Mask) -> VesselTree:
    """Find the centre lines of a mask, bool (H, W).

    Raises:
        NotMeasurable: there is no vessel, or nothing else.
    """
    if not vessels.any():
        raise NotMeasurable("no_vessel")
    if vessels.all():
        raise NotMeasurable("no_background")
    distance = edge_distance(vessels)
    skeleton = without_spurs(skeletonize(vessels), distance)
    graph = pixel_graph(skeleton)
    return VesselTree(
        vessels=vessels,
        skeleton=skeleton,
        segments=traced(graph),
        branch_points=graph.branch_points,
        end_points=end_points(graph, distance),
        calibres=calibres(distance, graph.pixels),
    )
