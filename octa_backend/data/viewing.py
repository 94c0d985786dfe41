"""Looking at an upload's scans: decoded and measured in batches, by several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from octa_backend.data.examination import Source
from octa_backend.data.limits import MIB
from octa_backend.data.measuring import measure
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.patients import patients_of
from octa_backend.data.processors import processors
from octa_backend.data.scans import ImagePixels, MaskPixels, decode_image, decode_mask
from octa_backend.data.statistics import ScanStatistics
from octa_backend.data.survey import Survey, opened, reason
from octa_backend.errors import ScanTooLarge, UnreadableScan

BATCH_SCANS, BATCH_BYTES = 16, 4 * MIB
"""A batch has at most so many scans, and a second one only where both decode to at most so many bytes."""

_KEPT_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class Seen:
    """A scan that could be decoded."""

    image: ImagePixels
    mask: MaskPixels
    statistics: ScanStatistics


@dataclass(frozen=True, slots=True)
class View:
    """One pair of files; where one of them could not be decoded there is no scan, and the faults say why."""

    pair: Pair
    scan: Seen | None
    faults: tuple[Fault, ...]


@contextmanager
def threads() -> Iterator[Executor]:
    """Threads: decoding and NumPy leave the interpreter's lock alone for most of their time."""
    _keep_freed_memory()
    executor = ThreadPoolExecutor(processors(), thread_name_prefix="intake")
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _keep_freed_memory() -> None:
    """Have glibc reuse the memory of stacks instead of returning it to the system after each.

    Fresh pages cost a third of the measuring. Once a block of this size was freed, glibc keeps smaller ones for itself
    (see mallopt(3), M_MMAP_THRESHOLD); none of its pages is touched. Elsewhere it changes nothing.
    """
    np.empty(_KEPT_BYTES, np.uint8)


def view_all(source: Source, surveyed: Survey, max_pixels: int, executor: Executor) -> Iterator[View]:
    """Decode and measure in parallel, in order, with few batches in memory at a time."""
    patients = patients_of(pair.name for pair in surveyed.pairs)
    waiting: deque[Future[list[View]]] = deque()
    for batch in _batches(surveyed):
        waiting.append(executor.submit(_view, source, batch, patients, max_pixels))
        if len(waiting) > processors() + 1:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _batches(surveyed: Survey) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    size = 0
    for pair in surveyed.readable:
        needed = surveyed.headers[pair.image].decoded_bytes + surveyed.headers[pair.mask].decoded_bytes
        if batch and (len(batch) == BATCH_SCANS or size + needed > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += needed
    if batch:
        yield batch


def _view(source: Source, batch: Sequence[Pair], patients: Mapping[str, str | None], max_pixels: int) -> list[View]:
    decoded = [_decode(source, pair, max_pixels) for pair in batch]
    whole = [(image, mask) for image, mask, _ in decoded if image is not None and mask is not None]
    measured = iter(measure([image for image, _ in whole], [mask for _, mask in whole]))
    views = []
    for pair, (image, mask, faults) in zip(batch, decoded, strict=True):
        if image is None or mask is None:
            views.append(View(pair, None, faults))
            continue
        of_image, of_mask = next(measured)
        statistics = ScanStatistics(
            pair.name, pair.image, pair.mask, patients[pair.name], pair.split, of_image, of_mask
        )
        views.append(View(pair, Seen(image, mask, statistics), faults))
    return views


def _decode(
    source: Source, pair: Pair, max_pixels: int
) -> tuple[ImagePixels | None, MaskPixels | None, tuple[Fault, ...]]:
    image: ImagePixels | None = None
    mask: MaskPixels | None = None
    faults = []
    try:
        image = decode_image(opened(source, pair.image, max_pixels), pair.image, max_pixels)
    except (UnreadableScan, ScanTooLarge) as error:
        faults.append(_unreadable(pair.image, error))
    try:
        mask_file = opened(source, pair.mask, max_pixels)
        mask = decode_mask(mask_file, pair.mask, max_pixels, by_colour=pair.mask_by_colour)
    except (UnreadableScan, ScanTooLarge) as error:
        faults.append(_unreadable(pair.mask, error))
    return image, mask, tuple(faults)


def _unreadable(path: str, error: UnreadableScan | ScanTooLarge) -> Fault:
    found = reason(error, path)
    return Fault("values_not_finite" if "not finite" in found else "scan_unreadable", path, found)
