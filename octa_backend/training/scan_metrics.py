"""Every metric of one scan: per foreground class, and their mean.

Shapes: K classes with background, *spatial pixels or voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from octa_backend.training.ignored import IGNORED
from octa_backend.training.metrics import Counts, overlap, specificity
from octa_backend.training.ranking import roc_auc
from octa_backend.training.skeleton import cldice
from octa_backend.training.surface_metrics import (
    average_surface_distance,
    hausdorff95,
    surface_dice,
    surface_distances,
)


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """What one class of one scan scores. None where a metric is not defined, as all are where no pixel counts.

    Attributes:
        dice, iou, precision, recall: in 0..1, see `metrics.overlap`.
        specificity: in 0..1; None where the mask fills the scan.
        auc: area under the ROC curve, in 0..1; None where the mask is empty or fills the scan.
        hd95, assd: distances between the surfaces, in the scale's unit; None where a mask is empty.
        surface_dice: in 0..1, at the scale's tolerance.
        cldice: in 0..1, see `skeleton.cldice`.
        volume_error: how much more was found than the mask holds, ml; None but for volumes of known spacing.
        absolute_volume_error: its size, whichever way it goes, ml; likewise.
        relative_volume_error: size of the error over the mask's volume; None for pictures, and for an empty mask.
    """

    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    auc: float | None
    hd95: float | None
    assd: float | None
    surface_dice: float | None
    cldice: float | None
    volume_error: float | None = None
    absolute_volume_error: float | None = None
    relative_volume_error: float | None = None


METRICS = tuple(one.name for one in fields(ClassMetrics))
DISTANCES = ("hd95", "assd")
"""The metrics that are lengths."""
VOLUMES = ("volume_error", "absolute_volume_error")
"""The metrics that are volumes, in ml."""
RELATIVE = "relative_volume_error"
"""A share that may be above 1, and of which less is better; all others lie in 0..1, and more is better."""

PX, UM, MM, ML = "px", "µm", "mm", "ml"
UNITS_PER_CM = {UM: 1e4, MM: 10.0}
"""A cube of 1 cm holds 1 ml. Of pixels it is not known."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How lengths are measured.

    Attributes:
        spacing: side of a pixel along each spatial axis, in `unit`.
        tolerance: within which two surfaces agree, in `unit`.
        unit: "px", "µm" or "mm".
    """

    spacing: tuple[float, ...]
    tolerance: float
    unit: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that have a meaning for scans of so many axes, measured in this unit."""
        if len(self.spacing) == 2:
            return tuple(name for name in METRICS if name not in (*VOLUMES, RELATIVE))
        return tuple(name for name in METRICS if self.voxel_ml is not None or name not in VOLUMES)

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel; None where its size is not known, and for pictures."""
        if len(self.spacing) != 3 or self.unit not in UNITS_PER_CM:
            return None
        return math.prod(self.spacing) / UNITS_PER_CM[self.unit] ** 3

    def unit_of(self, metric: str) -> str:
        """The unit of a metric; empty for shares."""
        return self.unit if metric in DISTANCES else ML if metric in VOLUMES else ""

    @classmethod
    def of(cls, spatial_dims: int, pixel_size_um: Sequence[float], tolerance: float | None) -> Scale:
        """The scale for pixels of a known size, or for pixels.

        Args:
            spatial_dims: 2 or 3.
            pixel_size_um: one length for all axes, or one for each; empty measures in pixels.
            tolerance: in the unit; None is one pixel (its longest side).

        Raises:
            ValueError: the lengths are not above 0 or not as many as there are axes, or the tolerance is below 0.
        """
        sides = tuple(pixel_size_um) or (1.0,)
        spacing = sides * spatial_dims if len(sides) == 1 else sides
        if len(spacing) != spatial_dims or not all(0 < side < float("inf") for side in spacing):
            raise ValueError(f"pixel size {sides}: give one length above 0, or one for each of {spatial_dims} axes")
        if tolerance is not None and not tolerance >= 0:
            raise ValueError(f"the tolerance is {tolerance}; it is 0 or more")
        return cls(spacing, max(spacing) if tolerance is None else tolerance, UM if pixel_size_um else PX)


@dataclass(frozen=True, slots=True)
class ScanMetrics:
    """What one scan scores.

    Attributes:
        overall: mean over the foreground classes that mask or prediction holds. Where neither holds any, the two
            agree: what two empty masks score. Where no pixel counts, nothing is defined.
        classes: of class 1, 2, …; None for a class that neither holds, where there are several.
        regions: of unions of classes, by their names; None for a region that neither holds.
    """

    overall: ClassMetrics
    classes: tuple[ClassMetrics | None, ...]
    regions: Mapping[str, ClassMetrics | None] = field(default_factory=dict)


def measure_scan(
    predicted: NDArray[np.integer],
    target: NDArray[np.integer],
    probability: NDArray[np.float32],
    scale: Scale,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> ScanMetrics:
    """Compare one predicted mask with the grader's.

    Args:
        predicted: class indices, (*spatial); 0 where a pixel does not count.
        target: class indices, (*spatial), `IGNORED` where a pixel does not count. Surfaces and centre lines end there
            in both masks.
        probability: of each class with background, (K, *spatial).
        scale: how lengths are measured.
        regions: classes of each union of classes that is measured too, by its name.

    Raises:
        ValueError: the shapes do not fit (broadcasting would hide a bug).
    """
    if predicted.shape != target.shape or probability.shape[1:] != target.shape:
        raise ValueError(
            f"the prediction is {predicted.shape} and the probabilities are {probability.shape[1:]} per class, but the "
            f"mask is {target.shape}"
        )
    counted = target != IGNORED

    def measured(members: Sequence[int]) -> ClassMetrics | None:
        """Of a union of classes; None where neither mask holds any."""
        found, true = (np.isin(mask, members) for mask in (predicted, target))
        if not (found.any() or true.any()):
            return None
        return measure_class(found, true, probability[list(members)].sum(0), scale, counted)

    classes = [measured([index]) for index in range(1, probability.shape[0])]
    present = [found for found in classes if found is not None]
    overall = mean_metrics(present) if present else _of_nothing(probability[0], scale, counted)
    unions = {name: measured(members) for name, members in (regions or {}).items()}
    return ScanMetrics(overall, (overall,) if len(classes) == 1 else tuple(classes), unions)


def _of_nothing(probability: NDArray[np.float32], scale: Scale, counted: NDArray[np.bool_]) -> ClassMetrics:
    """What two empty masks score; undefined where no pixel counts."""
    if not counted.any():
        return mean_metrics([])
    nothing = np.zeros(counted.shape, dtype=bool)
    return measure_class(nothing, nothing, probability, scale, counted)


def measure_class(
    predicted: NDArray[np.bool_],
    target: NDArray[np.bool_],
    probability: NDArray[np.float32],
    scale: Scale,
    counted: NDArray[np.bool_],
) -> ClassMetrics:
    """Every metric of one class, from its two masks, its probabilities and where pixels count, each (*spatial)."""
    counts = Counts(int((predicted & target).sum()), int(predicted.sum()), int(target.sum()), int(counted.sum()))
    distances = surface_distances(predicted, target, scale.spacing)
    return ClassMetrics(
        **asdict(overlap(counts)),
        specificity=specificity(counts),
        auc=roc_auc(probability[counted], target[counted]),
        hd95=hausdorff95(distances),
        assd=average_surface_distance(distances),
        surface_dice=surface_dice(distances, scale.tolerance),
        cldice=cldice(predicted, target),
        **(asdict(volume_errors(counts, scale)) if target.ndim == 3 else {}),
    )


@dataclass(frozen=True, slots=True)
class VolumeErrors:
    """As `ClassMetrics` has them."""

    volume_error: float | None
    absolute_volume_error: float | None
    relative_volume_error: float | None


def volume_errors(counts: Counts, scale: Scale) -> VolumeErrors:
    """By how much the volume that was found differs from the mask's, see `ClassMetrics`."""
    voxels = counts.found - counts.true
    error = None if scale.voxel_ml is None else voxels * scale.voxel_ml
    return VolumeErrors(
        error,
        absolute_volume_error=abs(error) if error is not None else None,
        relative_volume_error=abs(voxels) / counts.true if counts.true else None,
    )


def mean_metrics(several: Sequence[ClassMetrics]) -> ClassMetrics:
    """The mean of each metric over those for which it is defined; None where it is for none."""
    means: dict[str, float | None] = {}
    for name in METRICS:
        defined = [value for found in several if (value := getattr(found, name)) is not None]
        means[name] = fmean(defined) if defined else None
    return ClassMetrics(**means)
