"""What `GET /train/jobs/{job_id}/report` answers: the file `report.json` as a job of this version writes it.

The file is served as it stands, so a report of an earlier version may lack fields that were added since.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from octa_backend.controller.schemas import Answer

Share = Annotated[float | None, Field(ge=0, le=1)]
Split = Literal["train", "val", "test"]


class ClassMetricsOut(Answer):
    """What a class of a scan scores; null where a metric is not defined, see `scan_metrics.ClassMetrics`."""

    dice: Share
    iou: Share
    precision: Share
    recall: Share
    specificity: Share
    auc: Share
    hd95: float | None
    """In the unit of the subject's scale, as `assd`."""
    assd: float | None
    surface_dice: Share
    cldice: Share
    volume_error: float | None
    """ml; as `absolute_volume_error` of volumes of known spacing alone."""
    absolute_volume_error: float | None
    relative_volume_error: float | None
    """A share of the mask's volume; of volumes alone."""


class ScanMetricsOut(Answer):
    """What a scan scores: the mean over the classes that it holds, each class, and each region by its name."""

    overall: ClassMetricsOut
    classes: list[ClassMetricsOut | None]
    """Of class 1, 2, …"""
    regions: dict[str, ClassMetricsOut | None]


class ScanResultOut(Answer):
    """A scan of a report."""

    name: str
    split: Split | None
    metrics: ScanMetricsOut
    true_fraction: float
    """Share of foreground in the mask."""
    found_fraction: float
    """Share of foreground in the prediction."""
    spacing: list[float]
    """mm; of volumes of known spacing."""


class IntervalOut(Answer):
    """A 95 % bootstrap interval of a mean."""

    low: float
    high: float


class MetricSummaryOut(Answer):
    """A metric over scans; `undefined` of them have none, and are left out."""

    mean: float
    std: float
    interval: IntervalOut | None
    scans: int
    undefined: int


SummaryOut = dict[str, MetricSummaryOut | None]
"""By the names of `ClassMetricsOut`; null where no scan has the metric."""


class ScaleOut(Answer):
    """How lengths were measured: the sides of a pixel, and within which distance two surfaces agree."""

    spacing: list[float]
    tolerance: float
    unit: Literal["px", "µm", "mm"]


class SubjectOut(Answer):
    """What was evaluated, on what, and how it was computed."""

    model: str
    network: str
    dataset: str
    sha256: str
    split: Literal["train", "val", "test", "all", "out_of_fold"]
    """"val" where the dataset has no test split; "out_of_fold" of the scans of a cross-validation."""
    classes: int
    """With background."""
    threshold: float | None
    """Null with several classes."""
    scale: ScaleOut
    device: str
    precision: str
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    versions: dict[str, str | None]
    ignore_index: int | None
    tta: bool
    views: int | None


class TunedThresholdOut(Answer):
    """The threshold of the best mean Dice over validation scans, and that Dice beside the one at 0.5."""

    threshold: float
    dice: float
    usual_dice: float
    scans: int
    curve: dict[str, float]
    """Mean Dice by threshold."""


class EpochCurvesOut(Answer):
    """What a report's curves show of an epoch; null where a number was not finite."""

    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_dice: float | None
    lr: float | None


class ReasonOut(Answer):
    """Why a field of the plan has its value."""

    field: str
    value: Any
    reason: str


class RunFactsOut(Answer):
    """How the model was trained, and what that cost."""

    config: dict[str, Any]
    """Resolved; fields as in `TrainConfig`."""
    reasons: list[ReasonOut]
    patch_shape: list[int]
    epochs: int
    best_epoch: int
    seconds_per_epoch: float
    seconds_per_batch: float
    scans_per_second: float
    peak_memory_mb: float


class EvaluatedOut(Answer):
    """Every metric of every scan, and over scans."""

    subject: SubjectOut
    notes: list[str]
    """Codes of what a reader must know of these numbers."""
    scans: list[ScanResultOut]
    summary: SummaryOut
    class_summaries: list[SummaryOut]
    """Of class 1, 2, …, over the scans that hold it."""
    worst: list[str]
    """Names of the scans with the lowest Dice, the lowest first."""
    tuned: TunedThresholdOut | None
    history: list[EpochCurvesOut]
    training: RunFactsOut | None
    region_summaries: dict[str, SummaryOut]


class ReportHead(Answer):
    """What every report says of itself."""

    format: int = Field(examples=[1])
    notice: str


class EvaluationOut(ReportHead, EvaluatedOut):
    """The report of a training."""

    kind: Literal["evaluation"]


class FoldResultOut(Answer):
    """A fold: its model, and the mean Dice over the scans that it left out of training."""

    fold: int
    model: str
    epoch: int
    scans: int
    dice: float


class SpreadOut(Answer):
    """The folds' mean Dice over folds."""

    mean: float
    std: float
    low: float
    high: float


class CrossValidationOut(ReportHead):
    """The report of a cross-validation."""

    kind: Literal["cross_validation"]
    model: str
    """The ensemble of all folds."""
    folds: list[FoldResultOut]
    dice_over_folds: SpreadOut
    out_of_fold: EvaluatedOut
    """Each scan as scored by the one network that was not trained on it."""
    test: EvaluatedOut | None
    """The test split as scored by the ensemble; null without one."""
    config: dict[str, Any]
    """Of all folds, as resolved for the first."""


ReportOut = Annotated[EvaluationOut | CrossValidationOut, Field(discriminator="kind")]
