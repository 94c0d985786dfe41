"""Volumes as TIFF stacks: a page per slice, all of one size and kind. Counted before a page is decoded."""

# Shapes: D pages, H x W pixels.

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from octa_backend.data.scan_header import DECODER_FAULTS, black_at_zero
from octa_backend.errors import UnreadableScan

MOST_PAGES = 8192
"""Each page costs time to find, and a forged file has millions."""

_DTYPES = {"L": "uint8", "1": "uint8", "I;16": "uint16", "I;16L": "uint16", "I;16B": "uint16", "I": "int32",
           "F": "float32"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What the directories of a TIFF stack say: (D, H, W), and the dtype of its pages."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


def read_facts(file: BinaryIO, name: str) -> StackFacts:
    """Count the pages, without decoding one.

    Raises:
        UnreadableScan: not a TIFF, damaged, coloured, or of pages that differ.
    """
    with _opened(file, name) as image:
        return _facts(image, name)


def read_values(file: BinaryIO, name: str) -> NDArray[Any]:
    """Decode all pages, (D, H, W); the dtype as `read_facts` says.

    Raises:
        UnreadableScan: as `read_facts`.
    """
    with _opened(file, name) as image:
        facts = _facts(image, name)
        values: NDArray[Any] = np.empty(facts.shape, facts.dtype)
        for page in range(facts.shape[0]):
            image.seek(page)
            values[page] = np.asarray(black_at_zero(image))
        return values


@contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator[Image.Image]:
    """The first page, not decoded; what the decoder raises becomes `UnreadableScan`."""
    file.seek(0)
    try:
        with Image.open(file, formats=("TIFF",)) as image:
            yield image
    except UnidentifiedImageError as error:  # its words are the path on this machine
        raise UnreadableScan(f"{name} is not a TIFF file, whatever its name says") from error
    except DECODER_FAULTS as error:
        raise UnreadableScan(f"{name} is damaged: {str(error) or type(error).__name__}") from error


def _facts(image: Image.Image, name: str) -> StackFacts:
    size, mode, pages = image.size, image.mode, 1
    if mode not in _DTYPES:
        raise UnreadableScan(f"{name} has pages of kind {mode}; a stack of slices is grey, one number per voxel")
    while pages < MOST_PAGES:
        try:
            image.seek(pages)
        except EOFError:
            image.seek(0)
            return StackFacts((pages, size[1], size[0]), np.dtype(_DTYPES[mode]))
        if (image.size, image.mode) != (size, mode):
            found = f"{image.width}×{image.height} {image.mode}"
            raise UnreadableScan(
                f"{name} has pages that differ: the first is {size[0]}×{size[1]} {mode}, page {pages + 1} {found}"
            )
        pages += 1
    raise UnreadableScan(f"{name} has {MOST_PAGES:,} pages or more; send a part of it")
