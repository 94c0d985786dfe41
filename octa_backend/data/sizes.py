"""What explains that a mask and its image differ in size."""

from __future__ import annotations

from collections.abc import Sequence

SAME_ASPECT = 0.02
"""Width over height of a mask and its image may differ by this share: rounding, when one of them was scaled."""


def turn_between(image_shape: Sequence[int], mask_shape: Sequence[int]) -> str | None:
    """How the mask came to its size.

    Args:
        image_shape: (H, W) in pixels.
        mask_shape: likewise.

    Returns:
        "none" where a common scale explains it, "transpose" where a quarter turn does, else None.
    """
    height, width = image_shape
    mask_height, mask_width = mask_shape
    for turn, rows, columns in (("none", mask_height, mask_width), ("transpose", mask_width, mask_height)):
        if abs(columns * height / (rows * width) - 1) <= SAME_ASPECT:
            return turn
    return None
