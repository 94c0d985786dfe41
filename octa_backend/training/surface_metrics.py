"""How far the outlines of two masks lie apart: HD95, average symmetric surface distance, surface Dice.

Shapes: *spatial, (H, W) pixels or (D, H, W) voxels. A surface is the set of foreground pixels with a background
neighbour across a side (a face in 3-D); what lies outside the picture counts as background. Distances are Euclidean,
in the unit of `spacing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distance of every surface pixel of one mask to the other's surface; infinite where the other has none.

    Attributes:
        predicted: float64, one per surface pixel of the prediction.
        target: float64, one per surface pixel of the grader's mask.
    """

    predicted: NDArray[np.float64]
    target: NDArray[np.float64]

    @property
    def is_defined(self) -> bool:
        """Whether both masks have a surface."""
        return self.predicted.size > 0 and self.target.size > 0


def surface_distances(predicted: Mask, target: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure both ways between the surfaces of two masks.

    Args:
        predicted: bool, (*spatial).
        target: bool, (*spatial).
        spacing: side of a pixel along each axis; all 1 for distances in pixels.

    Raises:
        ValueError: the shapes differ, or the spacing is not one length above 0 per axis.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {predicted.shape} but the mask is {target.shape}")
    if len(spacing) != target.ndim or min(spacing) <= 0:
        raise ValueError(f"spacing {tuple(spacing)} is not one length above 0 for each of {target.ndim} axes")
    ours, theirs = _surface(predicted), _surface(target)
    box = bounding_box(ours | theirs)  # all that is measured lies in it; the rest of the scan would only cost time
    ours, theirs = ours[box], theirs[box]
    return SurfaceDistances(_distances(ours, theirs, spacing), _distances(theirs, ours, spacing))


def hausdorff95(distances: SurfaceDistances) -> float | None:
    """HD95: the larger of the two 95th percentiles (linear between neighbours) of the directed distances.

    Returns:
        In the unit of the spacing; None where a mask is empty.

    Source:
        D. Huttenlocher et al., IEEE TPAMI 15(9), 1993; the percentile as in L. Maier-Hein et al., Metrics Reloaded,
        Nature Methods 21, 2024 (arXiv:2206.01653).
    """
    if not distances.is_defined:
        return None
    return float(max(np.percentile(distances.predicted, 95), np.percentile(distances.target, 95)))


def average_surface_distance(distances: SurfaceDistances) -> float | None:
    """ASSD: the mean distance of all surface pixels of both masks, (Σd(A→B) + Σd(B→A)) / (|A| + |B|).

    Returns:
        In the unit of the spacing; None where a mask is empty.

    Source:
        T. Heimann et al., IEEE TMI 28(8), 2009, "average symmetric surface distance".
    """
    if not distances.is_defined:
        return None
    return float(np.concatenate((distances.predicted, distances.target)).mean())


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Surface Dice (normalised surface Dice, NSD): the share of both surfaces within `tolerance` of the other one.

    Args:
        distances: of the two surfaces.
        tolerance: in the unit of the spacing; a distance equal to it is within.

    Returns:
        In 0..1. Two empty masks agree: 1.0; one empty mask: 0.0. Surface pixels count alike, whatever their area.

    Source:
        S. Nikolov et al., 2018 (arXiv:1809.04430).
    """
    both = np.concatenate((distances.predicted, distances.target))
    return float((both <= tolerance).mean()) if both.size else 1.0


def _surface(mask: Mask) -> Mask:
    edge: Mask = mask & ~binary_erosion(mask)  # the default structure is the neighbours across sides or faces
    return edge


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around the foreground; empty slices where there is none."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(used[0], used[-1] + 1) if used.size else slice(0))
    return tuple(box)


def _distances(start: Mask, goal: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """From every pixel of `start` to the nearest of `goal`."""
    if not goal.any():
        return np.full(int(start.sum()), np.inf)
    distances: NDArray[np.float64] = distance_transform_edt(~goal, sampling=tuple(spacing))[start]
    return distances
