"""One scan while it is repaired: a file is decoded only for a step that needs it, encoded only if one changed it."""

# Shapes: C channels (1 or 3), H x W pixels.

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octa_backend.data.corrections import SIDES_SWAPPED, Corrected, best_turn, binarize, fit, invert, map_colours
from octa_backend.data.examination import Source
from octa_backend.data.pairing import Pair
from octa_backend.data.scan_header import read_header
from octa_backend.data.scans import MaskPixels, decode_image, decode_mask
from octa_backend.data.survey import opened
from octa_backend.diagnosis.steps import Step
from octa_backend.errors import UnreadableScan

HIGHEST_PNG_VALUE = np.iinfo(np.uint16).max


class Encoded(NamedTuple):
    """A file's content, and the ending that its name needs, such as ".png"."""

    content: bytes
    ending: str


class ScanAtWork:
    """The image and the mask of one scan, to which steps are applied one after the other."""

    def __init__(self, source: Source, pair: Pair, max_pixels: int) -> None:
        """Read the two files.

        Raises:
            UnreadableScan: one of them is damaged, or far larger than an image of `max_pixels` can be.
        """
        self._pair, self._max_pixels = pair, max_pixels
        self._image = opened(source, pair.image, max_pixels).getvalue()
        self._mask = opened(source, pair.mask, max_pixels).getvalue()
        self._corrected_image: NDArray[Any] | None = None
        self._corrected_mask: MaskPixels | None = None

    def apply(self, step: Step) -> dict[str, Any] | None:
        """Carry out one step that changes pixels.

        Returns:
            What was changed, JSON-serialisable, or None if nothing was.

        Raises:
            ValueError: the step is not one for this mask.
            UnreadableScan, ScanTooLarge: a file that is needed cannot be decoded.
        """
        if step.remedy == "drop_alpha":
            return self._drop_alpha()
        mask = self._corrected_mask or self._decoded_mask()
        try:
            corrected = self._correct(step, mask)
        except ValueError as error:
            raise ValueError(f"{step.remedy} does not suit {self._pair.mask}: {error}") from error
        if corrected is None:
            return None
        self._corrected_mask = corrected.mask
        return corrected.facts

    def image(self) -> Encoded:
        """The image as it is now."""
        if self._corrected_image is None:
            return Encoded(self._image, _ending(self._pair.image))
        return Encoded(_png(self._corrected_image), ".png")

    def mask(self) -> Encoded:
        """The mask as it is now: 8-bit, 16-bit where its values need it, or RGB where it is still coloured.

        Raises:
            UnreadableScan: its values are no PNG's.
        """
        if self._corrected_mask is None:
            return Encoded(self._mask, _ending(self._pair.mask))
        values, rgb = self._corrected_mask.values, self._corrected_mask.rgb
        pixels = rgb if values is None else _storable(values, self._pair.mask)
        assert pixels is not None
        return Encoded(_png(pixels), ".png")

    def _decoded_mask(self) -> MaskPixels:
        content, path = io.BytesIO(self._mask), self._pair.mask
        return decode_mask(content, path, self._max_pixels, by_colour=self._pair.mask_by_colour)

    def _correct(self, step: Step, mask: MaskPixels) -> Corrected | None:
        match step.remedy:
            case "map_colours":
                return map_colours(mask, step.details["colours"])
            case "binarize_masks":
                return binarize(mask, step.details["threshold"])
            case "invert_masks":
                return invert(mask)
            case "resize_masks":
                return self._resize(mask, step.details["turn"])
        raise ValueError(f"{step.remedy!r} changes no pixels")

    def _resize(self, mask: MaskPixels, turn: str) -> Corrected | None:
        """Bring the mask to its image's size; a "transpose" stands for whichever turn fits the image best."""
        header = read_header(io.BytesIO(self._image), self._pair.image)
        if turn == SIDES_SWAPPED[0]:
            image = decode_image(io.BytesIO(self._image), self._pair.image, self._max_pixels)
            turn = best_turn(mask, image.values)
        return fit(mask, (header.height, header.width), turn)

    def _drop_alpha(self) -> dict[str, Any] | None:
        """Keep the image as it is read: without alpha, and upright, so that no orientation is left to apply."""
        if self._corrected_image is not None:
            return None
        image = decode_image(io.BytesIO(self._image), self._pair.image, self._max_pixels)
        if image.alpha == "none":
            return None
        before = read_header(io.BytesIO(self._image), self._pair.image).mode
        self._corrected_image = image.values[0] if len(image.values) == 1 else image.values.transpose(1, 2, 0)
        return {"alpha": image.alpha, "mode_before": before, "mode": "L" if len(image.values) == 1 else "RGB"}


def _ending(path: str) -> str:
    return "." + path.rpartition(".")[2]


def _storable(values_HW: NDArray[Any], path: str) -> NDArray[Any]:
    low, high = values_HW.min(), values_HW.max()
    if low < 0 or high > HIGHEST_PNG_VALUE:
        raise UnreadableScan(
            f"mask {path} has values from {low} to {high}; a PNG holds 0 to {HIGHEST_PNG_VALUE:,}: binarize it first"
        )
    return values_HW.astype(np.uint8 if high <= 255 else np.uint16)


def _png(pixels: NDArray[Any]) -> bytes:
    """A PNG of uint8 (H, W), uint16 (H, W) or uint8 (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG")
    return file.getvalue()
