"""A scan beside the grader's mask and the differences between that and the prediction, as one picture.

Shapes: C channels, H x W pixels; volumes (D x H x W) are shown by one slice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from octa_backend.inference.channels import shown_channels

LONGEST = 480  # pixels of one panel's longer side; larger scans are scaled down
GAP = 4  # white pixels between panels


def comparison(
    image: NDArray[np.float32],
    predicted: NDArray[np.integer],
    target: NDArray[np.integer],
    colours: tuple[str, str, str, str],
) -> NDArray[np.uint8]:
    """Draw scan, grader's mask and comparison side by side.

    Args:
        image: (C, *spatial) in 0..1.
        predicted: class indices, (*spatial).
        target: class indices, (*spatial). Of a volume the slice along the first axis is shown in which the two differ
            most.
        colours: CSS colours of foreground that is right, was invented, was missed, or has another class.

    Returns:
        uint8, (H, W, 3).
    """
    if target.ndim == 3:
        slice_ = int((predicted != target).sum(axis=(1, 2)).argmax())
        image, predicted, target = image[:, slice_], predicted[slice_], target[slice_]
    panels = [
        _fit(rgb(image), Image.Resampling.BILINEAR),
        _fit(_grey(target), Image.Resampling.NEAREST),
        _fit(_differences(predicted, target, colours), Image.Resampling.NEAREST),
    ]
    white = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate((panels[0], white, panels[1], white, panels[2]), axis=1)


def _differences(
    predicted: NDArray[np.integer], target: NDArray[np.integer], colours: tuple[str, str, str, str]
) -> NDArray[np.uint8]:
    found, true = predicted > 0, target > 0
    cases = (found & (predicted == target), found & ~true, true & ~found, found & true & (predicted != target))
    picture = np.zeros((*target.shape, 3), dtype=np.uint8)
    for case, colour in zip(cases, colours, strict=True):
        picture[case] = ImageColor.getrgb(colour)[:3]
    return picture


def rgb(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A scan (C, H, W) in 0..1 as colours (H, W, 3), see `shown_channels`."""
    levels = np.rint(np.clip(shown_channels(image), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0))


def _grey(mask: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Classes as shades up to white."""
    levels = np.rint(mask / max(1, int(mask.max())) * 255).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)


def _fit(picture: NDArray[np.uint8], resampling: Image.Resampling) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, resampling))
