"""Distances of pixels from a mask: exact, on the mask's own device, for two or three spatial axes.

A boundary's distances are made for each batch from the augmented mask: they are then exact for the patch that the
network sees (turned, scaled, mirrored at the border), and take milliseconds. Those between objects are dearer, and are
made once per scan: see `gap_widths.py`.

Shapes: N masks, B scans, *spatial pixels or voxels. Distances are in pixels, float32.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

BLOCK = 2**26
"""Numbers that `_distances_by_axes` holds at once: 256 MiB."""


def distance_to(mask_N: Tensor) -> Tensor:
    """The Euclidean distance of each pixel from the nearest pixel of its mask.

    Args:
        mask_N: bool, (N, *spatial).

    Returns:
        float32, as the mask: 0 in it, infinite everywhere where a mask is empty.
    """
    if mask_N.device.type == "cpu":
        maps = [_distances_by_scipy(mask) for mask in mask_N.numpy()]
        return torch.from_numpy(np.stack(maps)) if maps else mask_N.float()
    return _distances_by_axes(mask_N)


def _distances_by_scipy(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The quickest on a CPU. Where there is no nearest pixel, scipy's answer means nothing."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    distances: NDArray[np.float32] = ndimage.distance_transform_edt(~mask).astype(np.float32)
    return distances


def _distances_by_axes(mask_N: Tensor) -> Tensor:
    """One axis after the other: the squared distance is the least over j of f(j) + (i - j)², f that of the axes before.

    It compares all pairs on a line, which a GPU does faster than it fetches a map from the host.

    Source:
        P. F. Felzenszwalb and D. P. Huttenlocher, Distance transforms of sampled functions, 2012: the separation into
        axes; the lower envelope of parabolas, which needs no pairs, is serial.
    """
    squared = torch.where(mask_N, 0.0, torch.inf)
    for axis in range(1, mask_N.ndim):
        lines = squared.movedim(axis, -1)
        length = lines.shape[-1]
        position = torch.arange(length, device=mask_N.device, dtype=torch.float32)
        apart = (position[:, None] - position).square()
        blocks = torch.split(lines.reshape(-1, length), max(1, BLOCK // length**2))
        nearest = torch.cat([(block[:, None, :] + apart).amin(-1) for block in blocks])
        squared = nearest.view(lines.shape).movedim(-1, axis)
    return squared.sqrt()


def signed_distance(mask_N: Tensor) -> Tensor:
    """The distance of each pixel from its mask's boundary, which runs between pixels: negative inside.

    Args:
        mask_N: bool, (N, *spatial).

    Returns:
        float32, as the mask. The pixels on either side of the boundary have -0.5 and 0.5, so that a vessel of one
        pixel has an inside. A mask without boundary, empty or full, gives 0 everywhere.
    """
    distance = torch.where(mask_N, 0.5 - distance_to(~mask_N), distance_to(mask_N) - 0.5)
    return torch.where(distance.isfinite(), distance, 0.0)


def border_map(mask_B: Tensor, sigma: float, gap_B: Tensor | None = None) -> Tensor:
    """exp(-(d1 + d2)² / 2σ²) in the background, d1 and d2 the distances to the nearest and second nearest object.

    Args:
        mask_B: class indices, (B, *spatial), 0 is background.
        sigma: σ, pixels.
        gap_B: d1 + d2, float32, as the mask, where it is known; see `gap_widths`.

    Returns:
        float32, as the mask, in 0..1: near 1 in narrow gaps, 0 in objects and where there are fewer than two.

    Source:
        O. Ronneberger et al., U-Net, 2015 (arXiv:1505.04597), equation 2, drawn in figure 3 for the background.
    """
    gap = gap_widths(mask_B) if gap_B is None else gap_B
    return torch.where(mask_B > 0, 0.0, torch.exp(-gap.square() / (2 * sigma**2)))


def gap_widths(mask_B: Tensor) -> Tensor:
    """d1 + d2, the distances of each pixel to the nearest and the second nearest object, pixels.

    An object is a connected component of one class; pixels that touch at a corner are connected.

    Args:
        mask_B: class indices, (B, *spatial), 0 is background.

    Returns:
        float32, as the mask; infinite where a mask has fewer than two objects.
    """
    maps = []
    for mask in mask_B:
        numbers, count = _objects(mask.cpu().numpy())
        if count < 2:
            maps.append(torch.full(mask.shape, torch.inf, device=mask.device))
            continue
        first, second = _two_nearest(torch.from_numpy(numbers).to(mask.device), count)
        maps.append(first + second)
    return torch.stack(maps)


def _objects(mask: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
    """Objects numbered from 1, 0 in the background, and how many there are."""
    numbers, count = np.zeros(mask.shape, np.int32), 0
    touching = np.ones((3,) * mask.ndim, np.int8)
    for value in np.unique(mask[mask > 0]):
        found, more = ndimage.label(mask == value, structure=touching)
        numbers += np.where(found > 0, found + count, 0).astype(np.int32)
        count += more
    return numbers, count


def _two_nearest(numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances of each pixel to its nearest and second nearest object.

    Each bit of the objects' numbers divides them in two sides. The nearest object is on one of them, and the second
    nearest differs from it in some bit: its distance is the least, over all bits, of the distance to the farther side.
    So 2·log2(count) maps do for any number of objects.

    Args:
        numbers: int32, (*spatial), objects from 1, 0 is background.
        count: objects, at least 2.
    """
    bits = range((count - 1).bit_length())
    sides = [(numbers > 0) & (((numbers - 1) >> bit & 1) == side) for bit in bits for side in (0, 1)]
    nearer, farther = distance_to(torch.stack(sides)).view(len(bits), 2, *numbers.shape).aminmax(dim=1)
    return nearer[0], farther.amin(0)
