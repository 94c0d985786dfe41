"""What a file says about its image: judged before a pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from octa_backend.data.palettes import palette_of
from octa_backend.errors import ScanTooLarge, UnreadableScan

MIN_SIDE_PIXELS = 16
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
MAX_FRAMES_COUNTED = 100

# Pillow's own limit is one for the whole process and warns or raises on opening. The limit here is each caller's own,
# held against the header before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# What Pillow's decoders raise for files that are damaged or forged.
DECODER_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, RuntimeError,
    MemoryError, AssertionError, struct.error, zlib.error, Image.DecompressionBombError, Warning,
)  # fmt: skip

GREY_MODES = ("1", "L", "LA", "La", "I", "F")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_BYTES_PER_VALUE = {"I": 4, "F": 4}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its image before it is decoded.

    Attributes:
        width: in pixels, as shown: after its EXIF orientation.
        height: in pixels, likewise.
        mode: Pillow's name of the pixel kind: "L", "RGB", "I;16", …
        format: "PNG", "JPEG", "TIFF", "BMP" or "GIF".
        frames: how many images the file holds, counted to `MAX_FRAMES_COUNTED`.
        palette: red, green and blue of each entry; empty without a palette.
    """

    width: int
    height: int
    mode: str
    format: str
    frames: int
    palette: bytes = b""

    @property
    def channels(self) -> int:
        """Channels after `read_image`: 1 or 3."""
        return 1 if self.mode in GREY_MODES or self.mode.startswith("I;16") else 3

    @property
    def has_alpha(self) -> bool:
        """True where `read_image` drops an alpha channel."""
        return self.mode in ALPHA_MODES

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the image as `read_image` returns it, at most."""
        per_value = 2 if self.mode.startswith("I;16") else _BYTES_PER_VALUE.get(self.mode, 1)
        return self.width * self.height * self.channels * per_value

    @property
    def size(self) -> str:
        """Width and height in words: "304×304"."""
        return f"{self.width}×{self.height}"


def read_header(source: BinaryIO | Path, name: str) -> Header:
    """Read what a file says about its image, without decoding it.

    Raises:
        UnreadableScan: not a PNG, JPEG, TIFF, BMP or GIF.
    """
    with opened(source, name) as image:
        return header_of(image)


def fault_of(header: Header, max_pixels: int) -> tuple[str, str] | None:
    """The code of the finding, and what was found, for a header that is not of one scan; else None."""
    if header.width * header.height > max_pixels:
        return "scan_too_large", f"{header.size}, {max_pixels:,} pixels are allowed"
    if min(header.width, header.height) < MIN_SIDE_PIXELS:
        return "scan_too_small", header.size
    if header.frames > 1:
        more = " or more" if header.frames == MAX_FRAMES_COUNTED else ""
        return "scan_has_frames", f"{header.frames}{more} frames"
    return None


def check_header(header: Header, name: str, max_pixels: int) -> None:
    """See that a header is of one scan of a size that is allowed.

    Raises:
        ScanTooLarge: more than `max_pixels`.
        UnreadableScan: too small, or several frames.
    """
    fault = fault_of(header, max_pixels)
    if fault is None:
        return
    code, found = fault
    if code == "scan_too_large":
        raise ScanTooLarge(f"{name} is {found}; send a smaller part of it")
    if code == "scan_too_small":
        raise UnreadableScan(f"{name} is {found}; both sides need at least {MIN_SIDE_PIXELS} pixels")
    raise UnreadableScan(f"{name} has {found}; send one scan per file")


@contextmanager
def opened(source: BinaryIO | Path, name: str) -> Iterator[Image.Image]:
    """The image of a file, not decoded; what its decoder raises becomes `UnreadableScan`."""
    if isinstance(source, Path):
        with source.open("rb") as file, opened(file, name) as image:
            yield image
        return
    try:
        with Image.open(source, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise UnreadableScan(f"{name} is not a PNG, JPEG, TIFF, BMP or GIF image, whatever its name says") from error
    except DECODER_FAULTS as error:
        raise UnreadableScan(f"{name} is damaged: {str(error) or type(error).__name__}") from error


def black_at_zero(image: Image.Image) -> Image.Image:
    """A decoded TIFF of 16 bits that counts from white, counted from black; of fewer bits, Pillow does so itself."""
    counts_from_white = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
    if not (counts_from_white and image.mode.startswith("I;16")):
        return image
    return Image.fromarray(np.uint16(65535) - np.asarray(image))


def header_of(image: Image.Image) -> Header:
    """What an opened image says about itself."""
    width, height = image.size
    # TIFF files report the size as shown; the other formats the size as stored.
    if (
        image.format != "TIFF"
        and has_exif_data(image)
        and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    ):
        width, height = height, width
    # A camera's MPO is a JPEG with previews behind the picture.
    image_format = "JPEG" if image.format == "MPO" else str(image.format)
    palette = palette_of(image)  # of the first frame
    frames = 1 if image_format == "JPEG" else _count_frames(image)
    return Header(width, height, image.mode, image_format, frames, palette)


def _count_frames(image: Image.Image) -> int:
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    # Each page costs time, and a forged file has millions.
    for frame in range(1, MAX_FRAMES_COUNTED):
        try:
            image.seek(frame)
        except EOFError:
            image.seek(0)
            return frame
    image.seek(0)
    return MAX_FRAMES_COUNTED


def has_exif_data(image: Image.Image) -> bool:
    """Whether there is EXIF data to ask for: for a PNG without it in front, Pillow would decode the pixels to look."""
    return image.format != "PNG" or "exif" in image.info
