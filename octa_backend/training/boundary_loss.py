"""Boundary loss: how far from the mask's boundary the prediction goes wrong.

Shapes: B scans, F foreground classes, *spatial pixels or voxels.
"""

from __future__ import annotations

from torch import Tensor

from octa_backend.training.comparison import Comparison
from octa_backend.training.distance_maps import signed_distance


def boundary_loss(comparison: Comparison) -> Tensor:
    """Mean over pixels, scans and foreground classes of φ·(p - g), in pixels, at least 0.

    φ is the signed distance to the mask's boundary, so a wrong pixel costs its distance. The source leaves out φ·g,
    which has no gradient; with it a right answer costs 0. A class that a scan lacks, or that fills it, has no boundary
    and costs nothing: a region loss must stand beside this one.

    Source:
        H. Kervadec et al., Boundary loss for highly unbalanced segmentation, 2019 (arXiv:1812.07032).
    """
    target = comparison.foreground
    distance = comparison.once("distance", lambda: signed_distance(target.flatten(0, 1) > 0.5).view_as(target))
    return comparison.mean((distance * (comparison.foreground_probability - target)).mean(1))
