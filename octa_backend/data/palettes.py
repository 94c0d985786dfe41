"""Palettes of masks: what their entries show, and whether their order can be one of classes."""

# Shapes: H x W pixels.

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octa_backend.data.masks import HIGHEST_CLASS_VALUE, VOID_VALUE

Entries = Mapping[int, tuple[int, int, int]]
"""Index -> (red, green, blue), of the entries that a mask uses."""

BLACK_BELOW = 30
"""A colour whose red, green and blue are all lower is black; colours that differ by less in each are one."""


def palette_of(image: Image.Image) -> bytes:
    """Red, green and blue of each entry of an opened image, which need not be decoded; nothing without a palette."""
    if image.mode != "P" or image.palette is None:
        return b""
    kind, entries = image.palette.getdata()
    bare = Image.new("P", (1, 1))
    bare.putpalette(entries, kind)
    return bytes(bare.getpalette("RGB") or ())


def colours_of(image: Image.Image) -> NDArray[np.uint8]:
    """What each index of a decoded image shows, (256, 3): what is transparent or has no entry is black."""
    colours = np.zeros((256, 3), np.uint8)
    entries = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    colours[: len(entries)] = entries
    clear = image.info.get("transparency")
    if isinstance(clear, bytes):
        colours[np.flatnonzero(np.frombuffer(clear[:256], np.uint8) == 0)] = 0
    elif isinstance(clear, int):
        colours[clear] = 0
    return colours


def entries_used(image: Image.Image) -> dict[int, tuple[int, int, int]]:
    """The entries that a decoded image uses."""
    red, green, blue = colours_of(image).T.tolist()
    return {index: (red[index], green[index], blue[index]) for index in np.unique(np.asarray(image)).tolist()}


def black_is_elsewhere(image: Image.Image) -> bool:
    """Whether the background of a decoded mask has another index than 0, as where a program chose the palette.

    Such programs number the colours of each file in an order of their own. A palette in which nothing is black says
    nothing, and `VOID_VALUE` beside class numbers may be black as well.
    """
    if is_black(*colours_of(image)[0].tolist()):
        return False
    used = entries_used(image)
    black = [index for index, colour in used.items() if is_black(*colour)]
    is_void = black == [VOID_VALUE] and all(index <= HIGHEST_CLASS_VALUE for index in used if index != VOID_VALUE)
    return bool(black) and not is_void


def is_black(red: int, green: int, blue: int) -> bool:
    """Whether a colour is background."""
    return max(red, green, blue) < BLACK_BELOW


def contradict(first: Entries, second: Entries) -> bool:
    """Whether one index has different colours."""
    return any(
        abs(a - b) >= BLACK_BELOW
        for index in first.keys() & second
        for a, b in zip(first[index], second[index], strict=True)
    )
