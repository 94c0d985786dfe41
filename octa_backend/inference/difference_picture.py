"""Where a predicted mask is right and where it is wrong, drawn on the scan.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from octa_backend.inference.comparison_picture import rgb
from octa_backend.training.ignored import IGNORED

RIGHT, MISSED, INVENTED, MIXED_UP = "#34c759", "#ff3b30", "#0a84ff", "#ffcc00"
"""Green: foreground that is right; red: missed; blue: invented; yellow: foreground of another class."""

SHADE = 0.5
"""The scan is darkened to this share, so that the colours stand out."""


def difference_picture(
    image: NDArray[np.float32], predicted: NDArray[np.integer], target: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """The darkened scan with every pixel of foreground in the colour of its case.

    Args:
        image: (C, H, W) in 0..1, one or three channels.
        predicted: class indices, (H, W).
        target: likewise, `IGNORED` where a pixel does not count: it is not coloured.

    Returns:
        uint8, (H, W, 3).
    """
    picture = (rgb(image) * SHADE).astype(np.uint8)
    counted = target != IGNORED
    found, true = (predicted > 0) & counted, target > 0
    cases = {
        RIGHT: found & (predicted == target),
        MISSED: true & ~found,
        INVENTED: found & ~true,
        MIXED_UP: found & true & (predicted != target),
    }
    for colour, case in cases.items():
        picture[case] = ImageColor.getrgb(colour)[:3]
    return picture
