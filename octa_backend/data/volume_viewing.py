"""Looking at an upload's volumes: decoded and measured one by one, by several threads, few in memory at a time."""

# Shapes: C channels, D x H x W voxels.

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.examination import Source
from octa_backend.data.limits import MIB
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.patients import patients_of
from octa_backend.data.processors import processors
from octa_backend.data.store import MASK_DTYPE
from octa_backend.data.survey import opened, reason
from octa_backend.data.volume_files import Volume, read_volume, read_volume_mask
from octa_backend.data.volume_measuring import measure_image, measure_mask
from octa_backend.data.volume_statistics import VolumeStatistics
from octa_backend.data.volume_survey import VolumeSurvey, fault_code
from octa_backend.errors import ScanTooLarge, UnreadableScan

MOST_BYTES_AHEAD = 256 * MIB
"""No further volume is begun while those in memory decode to so much."""


@dataclass(frozen=True, slots=True)
class SeenVolume:
    """A case that could be decoded: image (C, D, H, W), mask (D, H, W), and how they lie in space."""

    image: NDArray[Any]
    mask: NDArray[Any]
    volume: Volume
    statistics: VolumeStatistics


@dataclass(frozen=True, slots=True)
class VolumeView:
    """One case; where one of its files could not be decoded there is no scan, and the faults say why."""

    pair: Pair
    scan: SeenVolume | None
    faults: tuple[Fault, ...]


def view_volumes(source: Source, surveyed: VolumeSurvey, max_voxels: int, executor: Executor) -> Iterator[VolumeView]:
    """Decode and measure in parallel, in order."""
    patients = patients_of(pair.name for pair in surveyed.pairs)
    waiting: deque[tuple[Future[VolumeView], int]] = deque()
    ahead = 0
    for pair in surveyed.readable:
        size = surveyed.decoded_bytes(pair)
        while waiting and (ahead + size > MOST_BYTES_AHEAD or len(waiting) > processors()):
            future, done = waiting.popleft()
            ahead -= done
            yield future.result()
        waiting.append((executor.submit(_view, source, surveyed, pair, patients[pair.name], max_voxels), size))
        ahead += size
    while waiting:
        yield waiting.popleft()[0].result()


def read_case(
    source: Source, surveyed: VolumeSurvey, pair: Pair, max_voxels: int
) -> tuple[NDArray[Any], NDArray[Any], Volume]:
    """One case: image (C, D, H, W), mask (D, H, W), and the first image as a volume.

    Raises:
        UnreadableScan, ScanTooLarge: one of its files cannot be decoded.
    """
    several = surveyed.headers[pair.image].channels > 1
    volumes = [
        read_volume(opened(source, path, max_voxels), path, max_voxels, channels_allowed=several)
        for path in pair.images
    ]
    mask = read_volume_mask(opened(source, pair.mask, max_voxels), pair.mask, max_voxels)
    return stacked([volume.values for volume in volumes]), mask.values, volumes[0]


def stacked(images: list[NDArray[Any]]) -> NDArray[Any]:
    """Modalities as channels, of the widest dtype among them."""
    if len(images) == 1:
        return images[0]
    return np.concatenate(images, dtype=np.result_type(*images), casting="unsafe")


def _view(source: Source, surveyed: VolumeSurvey, pair: Pair, patient: str | None, max_voxels: int) -> VolumeView:
    try:
        image_CDHW, mask_DHW, volume = read_case(source, surveyed, pair, max_voxels)
    except (UnreadableScan, ScanTooLarge) as error:
        code = fault_code(error) if isinstance(error, UnreadableScan) else "volume_too_large"
        path = next(path for path in (pair.mask, *pair.images) if path in error.message)
        return VolumeView(pair, None, (Fault(code, path, reason(error, path)),))
    if mask_DHW.min() < 0 or mask_DHW.max() > np.iinfo(MASK_DTYPE).max:
        found = f"{int(mask_DHW.min())} to {int(mask_DHW.max())}"
        return VolumeView(pair, None, (Fault("volume_mask_values", pair.mask, found),))
    of_image = measure_image(image_CDHW, volume.spacing_mm)
    of_mask = measure_mask(mask_DHW, of_image.content)
    statistics = VolumeStatistics(pair.name, pair.image, pair.mask, patient, pair.split, of_image, of_mask)
    return VolumeView(pair, SeenVolume(image_CDHW, mask_DHW, volume, statistics), ())
