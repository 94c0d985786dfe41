"""What a plan looks at in a dataset."""

from __future__ import annotations

import math
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from octa_backend.data.splits import Splits
from octa_backend.data.store import Manifest
from octa_backend.training.mask_offset import MaskOffset, MeasureOffset
from octa_backend.training.spacings import median_spacing


class Fingerprint(BaseModel):
    """A dataset in a few numbers.

    Attributes:
        scans: all of them.
        training_scans: those that the network learns from.
        validation_scans: those that choose the best epoch.
        test_scans: of the official test split.
        spatial_dims: 2 for pictures, 3 for volumes.
        channels: of every scan.
        classes: with background; 2 is binary.
        foreground_fraction: share of pixels that are not background, mean over scans, 0..1.
        smallest: (H, W) or (D, H, W) of the scan with the fewest pixels.
        median: likewise, of the one in the middle.
        largest: likewise, of the one with the most.
        spacing_mm: median sides of a voxel along D, H and W, mm; empty where they are not known.
        mask_offset: how far the masks of pictures lie beside what they show; None where that was not measured.
    """

    model_config = ConfigDict(frozen=True)

    scans: int
    training_scans: int
    validation_scans: int
    test_scans: int
    spatial_dims: int
    channels: int
    classes: int
    foreground_fraction: float
    smallest: tuple[int, ...]
    median: tuple[int, ...]
    largest: tuple[int, ...]
    spacing_mm: tuple[float, ...] = ()
    mask_offset: MaskOffset | None = None

    @classmethod
    def of(cls, manifest: Manifest, splits: Splits, measure_offset: MeasureOffset | None = None) -> Fingerprint:
        """Of a dataset that is divided so."""
        shapes = sorted((scan.shape for scan in manifest.scans), key=math.prod)
        return cls(
            scans=len(manifest.scans),
            training_scans=len(splits.train),
            validation_scans=len(splits.val),
            test_scans=len(splits.test),
            spatial_dims=manifest.spatial_dims,
            channels=manifest.channels,
            classes=manifest.classes,
            foreground_fraction=manifest.foreground_fraction,
            smallest=shapes[0],
            median=shapes[len(shapes) // 2],
            largest=shapes[-1],
            spacing_mm=median_spacing(manifest.scans),
            mask_offset=measure_offset() if measure_offset and manifest.spatial_dims == 2 else None,
        )


class Greys(BaseModel):
    """How bright scans are, in 0..1.

    Attributes:
        white: where the brightest hundredth of a scan begins, the median over scans.
        spread: standard deviation over scans of their means.
        cut_off: of the light in what masks mark, above a scan's 1st percentile, the share that lies above its 99th; the
            median over scans.
    """

    model_config = ConfigDict(frozen=True)

    white: float
    spread: float
    cut_off: float = 0.0


MeasureGreys = Callable[[], Greys]
"""Measures the training scans; called only where the plan needs it."""
