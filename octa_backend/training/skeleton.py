"""Centre lines of masks, and clDice on them: does a prediction keep the vessels connected?

Shapes: (H, W) pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

Mask = NDArray[np.bool_]

_DIAGONALS_TOO = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are connected


def skeletonize(mask: Mask) -> Mask:
    """Thin a 2-D mask to lines one pixel wide that run where it does.

    Zhang and Suen's thinning removes squares of 2×2 pixels altogether. A part of the mask (connected over sides and
    corners) that would be left without a pixel keeps its deepest one, the first in reading order.

    Args:
        mask: bool, (H, W). What lies outside the picture counts as background.

    Returns:
        bool, (H, W), a subset of the mask.

    Raises:
        ValueError: the mask has not two axes; the thinning is not defined for volumes.

    Source:
        T. Y. Zhang and C. Y. Suen, A fast parallel algorithm for thinning digital patterns, CACM 27(3), 1984.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask of shape {mask.shape} cannot be thinned; thinning is for two axes only")
    # One row and column of background around the mask, so that every pixel has eight neighbours.
    padded = np.pad(mask, 1)
    _thin(padded.reshape(-1), padded.shape[1])
    return _with_lost_parts(padded[1:-1, 1:-1], mask)


def cldice(predicted: Mask, target: Mask) -> float:
    """Centre-line Dice: the harmonic mean of how much of each mask's skeleton lies in the other mask.

    Topology precision |S(P) ∩ T| / |S(P)|, topology sensitivity |S(T) ∩ P| / |S(T)|; S is `skeletonize`.

    Args:
        predicted: bool, (H, W).
        target: bool, (H, W).

    Returns:
        In 0..1. Two empty masks agree: 1.0; one empty mask: 0.0.

    Raises:
        ValueError: the shapes differ, or are not those of pictures.

    Source:
        S. Shit et al., clDice, CVPR 2021 (arXiv:2003.07311).
    """
    if predicted.shape != target.shape:
        raise ValueError(f"the prediction is {predicted.shape} but the mask is {target.shape}")
    ours, theirs = skeletonize(predicted), skeletonize(target)
    if not (ours.any() or theirs.any()):
        return 1.0
    if not (ours.any() and theirs.any()):
        return 0.0
    precision, sensitivity = float(target[ours].mean()), float(predicted[theirs].mean())
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


def _thin(flat: Mask, width: int) -> None:
    """Remove pixels from a padded mask, given as one row after the other, until none can go.

    Only pixels of the outline can go, so only they are looked at: the cost grows with the outline, not the area.
    """
    # P2 … P9 of the paper: north, then clockwise.
    around = np.array([-width, -width + 1, 1, width + 1, width, width - 1, -1, -width - 1])
    outline = np.flatnonzero(flat)
    removed_any = True
    while removed_any:
        removed_any = False
        for first in (True, False):
            neighbours = flat[outline[:, None] + around]
            inner = neighbours.all(axis=1)
            outline, neighbours = outline[~inner], neighbours[~inner]
            removable = _removable(neighbours, first=first)
            gone = outline[removable]
            flat[gone] = False
            laid_open = (gone[:, None] + around).reshape(-1)
            outline = np.union1d(outline[~removable], laid_open[flat[laid_open]])
            removed_any |= bool(gone.size)


def _removable(neighbours: Mask, *, first: bool) -> Mask:
    """Which pixels one half of an iteration removes, from their neighbours P2 … P9, bool (N, 8)."""
    p2, p4, p6, p8 = neighbours[:, 0], neighbours[:, 2], neighbours[:, 4], neighbours[:, 6]
    count = neighbours.sum(axis=1)
    rises = (~neighbours & np.roll(neighbours, -1, axis=1)).sum(axis=1)
    one, other = (p2 & p4 & p6, p4 & p6 & p8) if first else (p2 & p4 & p8, p2 & p6 & p8)
    removable: Mask = (count >= 2) & (count <= 6) & (rises == 1) & ~one & ~other
    return removable


def _with_lost_parts(skeleton: Mask, mask: Mask) -> Mask:
    """The skeleton with the deepest pixel of every part of the mask that has none in it."""
    parts, count = label(mask, structure=_DIAGONALS_TOO)
    lost = np.setdiff1d(np.arange(1, count + 1), parts[skeleton])
    if lost.size == 0:
        return skeleton
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    kept = skeleton.copy()
    for part in lost:
        inside = np.flatnonzero(parts == part)
        kept.flat[inside[np.argmax(depth.flat[inside])]] = True
    return kept
