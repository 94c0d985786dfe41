"""Whether the indices of a dataset's palette masks are classes, or places in palettes of any order."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from octa_backend.data.examination import Source
from octa_backend.data.pairing import Pair
from octa_backend.data.palettes import BLACK_BELOW, black_is_elsewhere, contradict, entries_used
from octa_backend.data.scan_files import read_scan
from octa_backend.data.scan_header import Header, opened
from octa_backend.data.scans import decode_mask
from octa_backend.errors import ScanTooLarge, UnreadableScan


def with_palettes_judged(
    source: Source, pairs: Sequence[Pair], headers: Mapping[str, Header], max_pixels: int
) -> list[Pair]:
    """The pairs; those with a palette mask are to be read by colour where the indices are no classes.

    That is so where background has another index than 0, where an index has different colours in different masks, or
    where other masks are coloured. One such mask counts for all: the others may lack a colour that would show it.

    Args:
        source: where the files are.
        pairs: the scans.
        headers: path -> header, of the files that can be read.
        max_pixels: of one mask, the most to decode.
    """
    there = [pair.mask for pair in pairs if pair.mask in headers]
    indexed = {mask for mask in there if headers[mask].palette}
    others = [mask for mask in there if mask not in indexed and headers[mask].channels > 1]
    if not indexed or (not others and _agree([headers[mask].palette for mask in indexed])):
        return list(pairs)
    if _is_arbitrary(source, sorted(indexed), max_pixels) or _any_coloured(source, others, max_pixels):
        return [replace(pair, mask_by_colour=True) if pair.mask in indexed else pair for pair in pairs]
    return list(pairs)


def _agree(palettes: Sequence[bytes]) -> bool:
    """Whether palettes begin alike, and with black: then nothing needs to be decoded to trust their indices."""
    longest = max(palettes, key=len)
    return max(longest[:3]) < BLACK_BELOW and all(longest.startswith(palette) for palette in palettes)


def _is_arbitrary(source: Source, masks: Sequence[str], max_pixels: int) -> bool:
    known: dict[int, tuple[int, int, int]] = {}
    for entries, elsewhere in _entries(source, masks, max_pixels):
        if elsewhere or contradict(known, entries):
            return True
        known |= entries
    return False


def _entries(
    source: Source, masks: Sequence[str], max_pixels: int
) -> Iterator[tuple[dict[int, tuple[int, int, int]], bool]]:
    """Of each mask that can be decoded the entries used, and whether black has another index than 0."""
    for mask in masks:
        try:
            with opened(io.BytesIO(read_scan(source, mask, max_pixels)), mask) as image:
                image.load()
                found = entries_used(image), black_is_elsewhere(image)
        except UnreadableScan:
            continue
        yield found


def _any_coloured(source: Source, masks: Sequence[str], max_pixels: int) -> bool:
    for mask in masks:
        try:
            decoded = decode_mask(io.BytesIO(read_scan(source, mask, max_pixels)), mask, max_pixels)
        except (UnreadableScan, ScanTooLarge):
            continue
        if decoded.values is None:
            return True
    return False
