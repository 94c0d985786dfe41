"""Reading one image or one mask, in whatever way it was saved."""

# Shapes: C channels (1 or 3), H x W pixels.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from octa_backend.data.palettes import black_is_elsewhere, colours_of
from octa_backend.data.scan_header import (
    ALPHA_MODES,
    GREY_MODES,
    black_at_zero,
    check_header,
    has_exif_data,
    header_of,
    opened,
)
from octa_backend.errors import UnreadableScan


@dataclass(frozen=True, slots=True)
class ImagePixels:
    """A decoded scan.

    Attributes:
        values: (C, H, W), C 1 or 3; uint8, uint16 or float32.
        alpha: "none", "constant" where an alpha channel that carries nothing was dropped, or "varies".
    """

    values: NDArray[Any]
    alpha: str


@dataclass(frozen=True, slots=True)
class MaskPixels:
    """A decoded mask, or the colours that make it none.

    Attributes:
        values: (H, W), whole numbers, uint8, uint16 or int64; None for a coloured mask.
        colours: some (red, green, blue) of a coloured mask.
        colour_count: how many different ones it has.
        rgb: uint8 (H, W, 3), the pixels of a coloured mask; None for others.
    """

    values: NDArray[Any] | None
    colours: tuple[tuple[int, int, int], ...] = ()
    colour_count: int = 0
    rgb: NDArray[np.uint8] | None = None


def read_image(source: BinaryIO | Path, name: str, max_pixels: int) -> NDArray[Any]:
    """Decode one scan.

    Palettes and CMYK become RGB, alpha is dropped, EXIF orientation is applied. 1-bit images become 0/255.

    Args:
        source: a file, or an open one.
        name: for messages.
        max_pixels: the most pixels to decode.

    Returns:
        (C, H, W), C 1 or 3; uint8, uint16 for 16-bit files, float32 for files of other whole or of real numbers.

    Raises:
        UnreadableScan: not an image, damaged, too small, of several frames, or with values that are not finite.
        ScanTooLarge: more than `max_pixels`.
    """
    return decode_image(source, name, max_pixels).values


def decode_image(source: BinaryIO | Path, name: str, max_pixels: int) -> ImagePixels:
    """As `read_image`, but tells what the alpha channel held that is dropped."""
    with opened(source, name) as image:
        check_header(header_of(image), name, max_pixels)
        upright = _upright(image)
        return ImagePixels(_image_array(upright, name), _alpha(upright))


def _alpha(image: Image.Image) -> str:
    if image.mode not in ALPHA_MODES:
        return "none"
    low, high = image.getchannel(image.getbands()[-1]).getextrema()
    return "constant" if low == high else "varies"


def read_mask(source: BinaryIO | Path, name: str, max_pixels: int) -> NDArray[Any]:
    """Decode one mask to its stored values: palette masks by index, 1-bit masks as 0/1, equal channels as one.

    A palette of greys whose first entry is not black is a picture and not an index: it is read as the greys it shows,
    because programs that write GIF number the greys in any order. So is one in which black has another index than 0,
    with colours: see `palettes.black_is_elsewhere`.

    Returns:
        (H, W), whole numbers.

    Raises:
        UnreadableScan: as `read_image`; also colours, or numbers that are not whole.
        ScanTooLarge: more than `max_pixels`.
    """
    mask = decode_mask(source, name, max_pixels)
    if mask.values is None:
        raise UnreadableScan(
            f"mask {name} has {mask.colour_count} colours; a mask holds one number per pixel: export it in grey"
        )
    return mask.values


def decode_mask(source: BinaryIO | Path, name: str, max_pixels: int, *, by_colour: bool = False) -> MaskPixels:
    """As `read_mask`, but tells the colours of a coloured mask instead of raising.

    With `by_colour`, a palette mask is what it shows, whatever its palette is like.
    """
    with opened(source, name) as image:
        check_header(header_of(image), name, max_pixels)
        return _mask_pixels(_upright(image), name, by_colour=by_colour)


def _upright(image: Image.Image) -> Image.Image:
    has_exif = has_exif_data(image)
    image.load()
    shown = black_at_zero(image)
    return ImageOps.exif_transpose(shown) if has_exif else shown


def _image_array(image: Image.Image, name: str) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16, copy=False)[np.newaxis]
    if image.mode in ("I", "F"):
        return _numbers(np.asarray(image), name)[np.newaxis]
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)[np.newaxis] * np.uint8(255)
    image.info.pop("transparency", None)  # converting a palette with one to RGB warns
    if image.mode in GREY_MODES:
        return np.asarray(_to_grey(image))[np.newaxis]
    return np.ascontiguousarray(np.asarray(_to_rgb(image)).transpose(2, 0, 1))


def _to_grey(image: Image.Image) -> Image.Image:
    return image if image.mode == "L" else image.convert("L")


def _to_rgb(image: Image.Image) -> Image.Image:
    return (image.convert("RGBA") if image.mode == "RGBa" else image).convert("RGB")


def _numbers(values_HW: NDArray[Any], name: str) -> NDArray[Any]:
    """32-bit whole or real numbers: uint16 where they fit, else float32."""
    if values_HW.dtype.kind == "i" and values_HW.min() >= 0 and values_HW.max() <= np.iinfo(np.uint16).max:
        return values_HW.astype(np.uint16)
    if not np.isfinite(values_HW).all():
        raise UnreadableScan(f"{name} holds values that are not finite (NaN or infinity)")
    return values_HW.astype(np.float32)


def _mask_pixels(image: Image.Image, name: str, *, by_colour: bool) -> MaskPixels:
    if image.mode == "P":
        return _palette_pixels(image, by_colour=by_colour)
    if image.mode in ("1", "L") or image.mode.startswith("I;16"):
        values_HW = np.asarray(image)
        return MaskPixels(values_HW.astype(np.uint16 if values_HW.dtype.itemsize > 1 else np.uint8, copy=False))
    if image.mode in ("I", "F"):
        numbers_HW = np.asarray(image)
        if not np.isfinite(numbers_HW).all():
            raise UnreadableScan(f"mask {name} holds values that are not finite (NaN or infinity)")
        if (numbers_HW != np.rint(numbers_HW)).any():
            raise UnreadableScan(f"mask {name} holds fractions; a mask holds whole numbers")
        return MaskPixels(numbers_HW.astype(np.int64))
    if image.mode == "PA":
        return MaskPixels(np.asarray(image)[..., 0])
    if image.mode in GREY_MODES:
        return MaskPixels(np.asarray(_to_grey(image)))
    return _one_channel(np.asarray(_to_rgb(image)))


def _palette_pixels(image: Image.Image, *, by_colour: bool) -> MaskPixels:
    if by_colour or (not _shows_greys(image) and black_is_elsewhere(image)):
        return _one_channel(np.take(colours_of(image), np.asarray(image), axis=0))
    return MaskPixels(_palette_values(image))


def _palette_values(image: Image.Image) -> NDArray[np.uint8]:
    indices_HW = np.asarray(image)
    return np.take(_entries(image)[:, 0], indices_HW) if _shows_greys(image) else indices_HW


def _shows_greys(image: Image.Image) -> bool:
    """Whether the palette has greys alone, and another one than black first."""
    colours = _entries(image)
    is_grey = bool((colours == colours[:, :1]).all())
    return is_grey and bool(colours[0].any()) and int(np.asarray(image).max()) < len(colours)


def _entries(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)


def _one_channel(colours_HWC: NDArray[Any]) -> MaskPixels:
    red, green, blue = (colours_HWC[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return MaskPixels(np.ascontiguousarray(red))
    packed = np.unique(red.astype(np.uint32) << 16 | green.astype(np.uint32) << 8 | blue)
    named = tuple((int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in packed[:8])
    return MaskPixels(None, named, len(packed), colours_HWC)
