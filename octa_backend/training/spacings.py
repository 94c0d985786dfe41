"""The size of a dataset's pixels and voxels, and how lengths in its scans are measured by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.training.scan_metrics import MM, Scale


def median_spacing(scans: Sequence[ScanEntry]) -> tuple[float, ...]:
    """The median side of a voxel along each axis, mm; empty where it is not known of every scan."""
    known = [scan.known_spacing_mm for scan in scans]
    return tuple(median(sides) for sides in zip(*known, strict=True)) if all(known) else ()


def scale_of(manifest: Manifest, pixel_size_um: Sequence[float] = (), tolerance: float | None = None) -> Scale:
    """How lengths are measured in a dataset: in mm where its scans say how large their voxels are.

    Args:
        manifest: of the dataset.
        pixel_size_um: one length for all axes, or one for each, in place of the scans' own; empty: there is none.
        tolerance: of the surface Dice, in the scale's unit; None is one pixel (its longest side).

    Raises:
        ValueError: as `Scale.of`.
    """
    spacing = median_spacing(manifest.scans)
    if pixel_size_um or not spacing:
        return Scale.of(manifest.spatial_dims, pixel_size_um, tolerance)
    return replace(Scale.of(manifest.spatial_dims, spacing, tolerance), unit=MM)


def scale_of_scan(scale: Scale, scan: ScanEntry) -> Scale:
    """The dataset's scale for one scan: with the scan's own spacing where lengths are in mm; the tolerance stays."""
    return replace(scale, spacing=scan.spacing_mm) if scale.unit == MM else scale
