"""Where patches are cut: at random, and a share of them around a pixel of the foreground.

Shapes: *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def patch_start(
    mask: NDArray[np.uint8], patch_shape: Sequence[int], oversampling: float, generator: torch.Generator
) -> tuple[int, ...]:
    """The first pixel of a patch, which lies inside the scan along every axis where the scan is large enough.

    Args:
        mask: class numbers, (*spatial), 0 is background.
        patch_shape: pixels of the patch along each axis.
        oversampling: probability that the patch is cut around a foreground pixel, of a class drawn from those the scan
            has, so that rare classes are seen as often as frequent ones. Only for scans larger than the patch.
        generator: of the CPU.

    Source:
        F. Isensee et al., nnU-Net, Nature Methods 18, 2021 (arXiv:1904.08128).
    """
    room = [max(0, length - wanted) for length, wanted in zip(mask.shape, patch_shape, strict=True)]
    start = tuple(int(torch.randint(space + 1, (), generator=generator)) for space in room)
    if oversampling == 0 or not any(room) or float(torch.rand((), generator=generator)) >= oversampling:
        return start
    centre = foreground_pixel(mask, generator)
    if centre is None:
        return start
    return tuple(
        min(max(0, middle - wanted // 2), space)
        for middle, wanted, space in zip(centre, patch_shape, room, strict=True)
    )


def foreground_pixel(mask: NDArray[np.uint8], generator: torch.Generator) -> tuple[int, ...] | None:
    """A random pixel of a random class; None where all is background."""
    classes = np.flatnonzero(np.bincount(mask.ravel())[1:]) + 1
    if len(classes) == 0:
        return None
    of_class = np.flatnonzero(mask == classes[_draw(len(classes), generator)])
    found = np.unravel_index(of_class[_draw(len(of_class), generator)], mask.shape)
    return tuple(int(index) for index in found)


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
