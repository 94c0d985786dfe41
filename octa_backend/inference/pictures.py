"""PNG pictures of scans, masks and predictions."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from torchvision.utils import draw_segmentation_masks, make_grid

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.normalise import to_unit
from octa_backend.inference.channels import shown_channels

COLOURS = ("#ff3b30", "#34c759", "#0a84ff", "#ffcc00", "#af52de", "#ff9500", "#5ac8fa", "#ff2d55")
"""Overlay colour of class 1, 2, …; they begin again after the last."""

ALPHA = 0.5
TILE = 256  # pixels of one picture in a contact sheet
SHEET_SIDE = 512
"""Scans of more pixels a side are thinned out before they are drawn, so that a sheet of large ones fits memory."""

QUICK = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""How pictures are packed that nobody waits for the size of: in half the usual time, and hardly larger."""


def mask_picture(mask: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """The mask as it is saved: 0 and 255 for binary masks, class indices for more classes; (H, W)."""
    return (mask > 0).astype(np.uint8) * np.uint8(255) if classes == 2 else mask


def overlay(
    image: NDArray[np.float32], mask: NDArray[np.uint8], classes: int, colours: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """The scan with each foreground class tinted.

    Args:
        image: (C, H, W) in 0..1, one or three channels.
        mask: (H, W), class indices.
        classes: with background.
        colours: "#rrggbb" of class 1, 2, …; none: see `class_colours`.

    Returns:
        uint8, (H, W, 3).
    """
    return _hwc(_overlay(_rgb(image), torch.from_numpy(mask), colours or class_colours(classes)))


def class_colours(classes: int, labels: Sequence[ClassLabel] = ()) -> list[str]:
    """The colour of class 1, 2, …: the dataset's own where it has one, else one of `COLOURS`.

    Args:
        classes: with background.
        labels: of class 0, 1, …; there may be fewer than classes.
    """
    own = {index: label.colour for index, label in enumerate(labels)}
    return [own.get(index) or COLOURS[(index - 1) % len(COLOURS)] for index in range(1, classes)]


def contact_sheet(
    pairs: list[tuple[NDArray[np.float32], NDArray[np.uint8]]], classes: int, labels: Sequence[ClassLabel] = ()
) -> NDArray[np.uint8]:
    """One row per scan: image, mask, overlay, each fitted into a square; uint8, (H, W, 3).

    Args:
        pairs: images (C, H, W) in 0..1 with their masks (H, W) of class indices.
        classes: with background.
        labels: of class 0, 1, …, for their colours; the mask of two classes is white on black.
    """
    tiles, colours = [], class_colours(classes, labels)
    for image, mask in pairs:
        classes_HW = torch.from_numpy(mask)
        drawn = _overlay(torch.zeros(3, *mask.shape, dtype=torch.uint8), classes_HW, colours, alpha=1.0)
        if classes == 2:
            drawn = (classes_HW > 0).to(torch.uint8).mul(255).expand(3, -1, -1)
        tiles += [_fit(_rgb(image)), _fit(drawn, nearest=True), _fit(_overlay(_rgb(image), classes_HW, colours))]
    return _hwc(make_grid(tiles, nrow=3, padding=4, pad_value=255))


def overview(
    pairs: list[tuple[NDArray[np.float32], NDArray[np.uint8]]],
    classes: int,
    columns: int,
    labels: Sequence[ClassLabel] = (),
) -> NDArray[np.uint8]:
    """Scans in rows, each beside itself with its mask laid over, each fitted into a square; uint8, (H, W, 3).

    Args:
        pairs: images (C, H, W) in 0..1 with their masks (H, W) of class indices.
        classes: with background.
        columns: scans in a row.
        labels: of class 0, 1, …, for their colours.
    """
    tiles, colours = [], class_colours(classes, labels)
    for image, mask in pairs:
        tiles += [_fit(_rgb(image)), _fit(_overlay(_rgb(image), torch.from_numpy(mask), colours))]
    return _hwc(make_grid(tiles, nrow=2 * columns, padding=4, pad_value=255))


def sheet_row(image: NDArray[Any], mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A scan (C, H, W) as decoded and its mask (H, W), small enough and scaled for `contact_sheet`."""
    step = -(-max(mask.shape) // SHEET_SIDE)
    return to_unit(image[:, ::step, ::step]), np.ascontiguousarray(mask[::step, ::step])


def grey_levels(share: NDArray[np.float32], kind: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    """Shares in 0..1 as grey levels of 8 or 16 bits: 0 is black, 1 is 255 or 65535."""
    return np.rint(share.clip(0, 1) * np.float64(np.iinfo(kind).max)).astype(kind)


def kept_pictures(image: NDArray[np.generic], probability: NDArray[np.float32]) -> dict[str, bytes]:
    """What a kept prediction shows beside mask and overlay, as file name -> PNG, packed quickly rather than tightly.

    Args:
        image: (C, H, W) as decoded; becomes `scan.png`, thinned out to `SHEET_SIDE` pixels a side.
        probability: (H, W) in 0..1; becomes `probability.png`, grey, 255 for 1.
    """
    step = -(-max(probability.shape) // SHEET_SIDE)
    scan_CHW = grey_levels(to_unit(image[:, ::step, ::step]), np.uint8)
    scan = scan_CHW[0] if len(scan_CHW) == 1 else np.ascontiguousarray(scan_CHW.transpose(1, 2, 0))
    return {"scan.png": png(scan, QUICK), "probability.png": png(grey_levels(probability, np.uint8), QUICK)}


def png(picture: NDArray[np.uint8] | NDArray[np.uint16], packing: Mapping[str, int] | None = None) -> bytes:
    """Encode (H, W) of 8 or 16 bits, or (H, W, 3) of 8, as PNG, packed as usual or as `QUICK` says."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", **packing or {})
    return buffer.getvalue()


def _hwc(picture: Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = picture.permute(1, 2, 0).numpy()
    return array


def _rgb(image: NDArray[np.float32]) -> Tensor:
    tensor = torch.from_numpy(shown_channels(image)).mul(255).round().to(torch.uint8)
    return tensor.expand(3, -1, -1) if tensor.shape[0] == 1 else tensor


def _overlay(rgb: Tensor, mask: Tensor, colours: Sequence[str], alpha: float = ALPHA) -> Tensor:
    layers = torch.stack([mask == index for index in range(1, len(colours) + 1)])
    drawn: Tensor = draw_segmentation_masks(rgb.contiguous(), layers, alpha=alpha, colors=list(colours))
    return drawn


def _fit(picture: Tensor, *, nearest: bool = False) -> Tensor:
    """Scale to at most `TILE` on the longer side and centre on black."""
    height, width = picture.shape[-2:]
    scale = TILE / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    mode = transforms.InterpolationMode.NEAREST if nearest else transforms.InterpolationMode.BILINEAR
    small = transforms.resize(picture, size, interpolation=mode, antialias=not nearest)
    left, top = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    fitted: Tensor = transforms.pad(small, [left, top, TILE - size[1] - left, TILE - size[0] - top])
    return fitted
