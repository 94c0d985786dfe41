"""Centre lines of masks, and clDice on them: does a prediction keep the vessels connected?

Shapes: *spatial, (H, W) pixels or (D, H, W) voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from skimage.morphology import skeletonize as thin

from octa_backend.training.surface_metrics import bounding_box

Mask = NDArray[np.bool_]


def skeletonize(mask: Mask) -> Mask:
    """Thin a mask to lines one pixel wide that run where it does.

    Pictures are thinned by Zhang and Suen's algorithm, volumes by Lee's, which removes some blobs of few voxels
    altogether. A part of the mask (connected over sides and corners) that would be left without a pixel keeps its
    deepest one, the first in reading order.

    Args:
        mask: bool, (*spatial). What lies outside the picture counts as background.

    Returns:
        bool, (*spatial), a subset of the mask.

    Raises:
        ValueError: the mask has neither two nor three axes.

    Source:
        `skimage.morphology.skeletonize`, as the authors of clDice take it. T. Y. Zhang and C. Y. Suen, A fast parallel
        algorithm for thinning digital patterns, CACM 27(3), 1984; T.-C. Lee et al., Building skeleton models via 3-D
        medial surface/axis thinning algorithms, CVGIP 56(6), 1994.
    """
    if mask.ndim not in (2, 3):
        raise ValueError(f"a mask of shape {mask.shape} cannot be thinned; thinning is for two or three axes")
    return _with_lost_parts(thin(mask), mask)


def cldice(predicted: Mask, target: Mask) -> float:
    """Centre-line Dice: the harmonic mean of how much of each mask's skeleton lies in the other mask.

    Topology precision |S(P) ∩ T| / |S(P)|, topology sensitivity |S(T) ∩ P| / |S(T)|; S is `skeletonize`.

    Args:
        predicted: bool, (*spatial).
        target: bool, (*spatial).

    Returns:
        In 0..1. Two empty masks agree: 1.0; one empty mask: 0.0.

    Raises:
        ValueError: the shapes differ, or are not those of pictures or volumes.

    Source:
        S. Shit et al., clDice, CVPR 2021 (arXiv:2003.07311).
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {predicted.shape} but the mask is {target.shape}")
    if not (predicted.any() and target.any()):
        return 0.0 if predicted.any() or target.any() else 1.0
    box = bounding_box(predicted | target)
    predicted, target = predicted[box], target[box]
    ours, theirs = skeletonize(predicted), skeletonize(target)
    precision, sensitivity = float(target[ours].mean()), float(predicted[theirs].mean())
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


def _with_lost_parts(skeleton: Mask, mask: Mask) -> Mask:
    """The skeleton with the deepest pixel of every part of the mask that has none in it."""
    parts, count = label(mask, structure=np.ones((3,) * mask.ndim, dtype=bool))  # corners connect
    lost = np.setdiff1d(np.arange(1, count + 1), parts[skeleton])
    if lost.size == 0:
        return skeleton
    inner = (slice(1, -1),) * mask.ndim
    depth = distance_transform_edt(np.pad(mask, 1))[inner]
    kept = skeleton.copy()
    for part in lost:
        inside = np.flatnonzero(parts == part)
        kept.flat[inside[np.argmax(depth.flat[inside])]] = True
    return kept
