"""The report of an evaluation: plain data, summed up; `to_json` is `report.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, pstdev
from typing import Any

from octa_backend.training.bootstrap import Interval, mean_interval
from octa_backend.training.run_facts import RunFacts
from octa_backend.training.scan_metrics import METRICS, ClassMetrics, Scale, ScanMetrics
from octa_backend.training.threshold import THRESHOLDS, TunedThreshold

FORMAT = 1
WORST = 5
"""How many scans are shown with pictures."""

CURVES = ("train_loss", "val_loss", "val_dice", "lr")
"""What is kept of each epoch."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """One scan's metrics, its split ("train", "val", "test", or None), and its shares of foreground, 0..1.

    Of volumes `spacing` holds the sides of a voxel, mm; it is empty for pictures, and where it is not known.
    """

    name: str
    split: str | None
    metrics: ScanMetrics
    true_fraction: float
    found_fraction: float
    spacing: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric over scans.

    Attributes:
        mean: over the scans for which it is defined.
        std: population standard deviation over the same.
        interval: 95 % bootstrap interval of the mean; None for a single scan.
        scans: for how many it is defined.
        undefined: for how many it is not; they are left out, so read a distance beside its number of scans.
    """

    mean: float
    std: float
    interval: Interval | None
    scans: int
    undefined: int


Summary = dict[str, MetricSummary | None]
"""A summary per metric; None where the metric is defined for no scan."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated, on what, and how it was computed.

    Attributes:
        model: name of the model.
        network: name of its network.
        dataset: name of the zip.
        sha256: of the zip.
        split: "train", "val", "test" or "all".
        classes: with background.
        threshold: a pixel is foreground from this probability on; None with several classes, where the likeliest wins.
        scale: how lengths were measured.
        device: as torch names it.
        precision: "fp32" or "bf16".
        created_at: UTC, ISO 8601.
        versions: of this program and its libraries.
        ignore_index: class of the dataset that did not count; None where all did, and in reports of earlier versions.
        tta: whether each answer is the mean over several views.
        views: how many; eight with `tta` in reports of earlier versions.
    """

    model: str
    network: str
    dataset: str
    sha256: str
    split: str
    classes: int
    threshold: float | None
    scale: Scale
    device: str
    precision: str
    created_at: str
    versions: Mapping[str, str | None]
    ignore_index: int | None = None
    tta: bool = False
    views: int | None = None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that an evaluation found.

    Attributes:
        subject: what was evaluated.
        notes: codes of what a reader must know, see `evaluation_words.NOTES`.
        scans: in the dataset's order.
        summary: over scans, of each scan's mean over its classes.
        class_summaries: the same of class 1, 2, … of the network alone, over the scans that hold it.
        region_summaries: the same of each region, by its name.
        worst: names of the scans with the lowest Dice, the lowest first.
        tuned: the threshold that was tuned on validation scans, where it was asked for.
        history: `CURVES` of each epoch of the training, where they are known.
        training: how the model was trained, where the report was made at the end of its run.
    """

    subject: Subject
    notes: tuple[str, ...]
    scans: tuple[ScanResult, ...]
    summary: Summary
    class_summaries: tuple[Summary, ...]
    worst: tuple[str, ...]
    tuned: TunedThreshold | None
    history: tuple[Mapping[str, Any], ...]
    training: RunFacts | None = None
    region_summaries: Mapping[str, Summary] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data. What is not defined is None; there is no NaN."""
        content = asdict(self)
        for summary in (content["summary"], *content["class_summaries"], *content["region_summaries"].values()):
            for found in summary.values():
                if found and found["interval"] is not None:
                    found["interval"] = found["interval"]._asdict()
        if self.tuned is not None:
            content["tuned"]["curve"] = dict(zip(map(str, THRESHOLDS), self.tuned.curve, strict=True))
        return content

    def to_json(self) -> str:
        """The report as the text of `report.json`."""
        return as_json("evaluation", self.to_dict())


def as_json(kind: str, content: Mapping[str, Any]) -> str:
    """A report's text: its content, what kind of report it is, and the notice."""
    whole = {"format": FORMAT, "kind": kind, **content, "notice": "research use only"}
    return json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=1)


def read_scans(content: Mapping[str, Any]) -> list[ScanResult]:
    """The scans of a report that was read from JSON."""
    return [
        ScanResult(
            **{
                **scan,
                "metrics": ScanMetrics(
                    ClassMetrics(**scan["metrics"]["overall"]),
                    tuple(map(_read_class, scan["metrics"]["classes"])),
                    {name: _read_class(found) for name, found in scan["metrics"].get("regions", {}).items()},
                ),
                "spacing": tuple(scan.get("spacing", ())),
            }
        )
        for scan in content["scans"]
    ]


def _read_class(found: Mapping[str, Any] | None) -> ClassMetrics | None:
    return None if found is None else ClassMetrics(**found)


def read_subject(content: Mapping[str, Any]) -> Subject:
    """What a report that was read from JSON is about."""
    subject = content["subject"]
    scale = Scale(**{**subject["scale"], "spacing": tuple(subject["scale"]["spacing"])})
    return Subject(**{**subject, "scale": scale})


def make_report(
    subject: Subject,
    scans: Sequence[ScanResult],
    *,
    notes: Iterable[str] = (),
    tuned: TunedThreshold | None = None,
    history: Iterable[Mapping[str, Any]] = (),
    training: RunFacts | None = None,
) -> EvaluationReport:
    """Sum up the results of scans.

    Args:
        subject: what was evaluated.
        scans: their results.
        notes: codes, see `evaluation_words.NOTES`.
        tuned: the threshold tuned on validation scans.
        history: the epochs of the training, with the fields of `events.EpochFinished`, of which `CURVES` are kept.
        training: how the model was trained.

    Raises:
        ValueError: there are no scans.
    """
    if not scans:
        raise ValueError("a report needs at least one scan")
    by_class = zip(*(scan.metrics.classes for scan in scans), strict=True)
    by_region = {name: [scan.metrics.regions[name] for scan in scans] for name in scans[0].metrics.regions}
    return EvaluationReport(
        subject=subject,
        notes=tuple(notes),
        scans=tuple(scans),
        summary=summarise([scan.metrics.overall for scan in scans]),
        class_summaries=tuple(map(_summary_where_held, by_class)),
        worst=tuple(scan.name for scan in worst_first(scans)[:WORST]),
        tuned=tuned,
        history=tuple({name: finite(epoch.get(name)) for name in ("epoch", *CURVES)} for epoch in history),
        training=training,
        region_summaries={name: _summary_where_held(found) for name, found in by_region.items()},
    )


def _summary_where_held(found: Iterable[ClassMetrics | None]) -> Summary:
    """Over the scans in which mask or prediction hold the class, or the region."""
    return summarise([one for one in found if one is not None])


def finite(value: float | None) -> float | None:
    """The same number, or None: JSON knows no NaN; an epoch whose validation loss overflowed has a gap in its curve."""
    return value if value is not None and math.isfinite(value) else None


def worst_first(scans: Iterable[ScanResult]) -> list[ScanResult]:
    """By Dice, the lowest first; equal ones as they came, and none without a pixel that counts."""
    known = [(dice, scan) for scan in scans if (dice := scan.metrics.overall.dice) is not None]
    return [scan for _, scan in sorted(known, key=lambda one: one[0])]


def summarise(found: Sequence[ClassMetrics]) -> Summary:
    """Mean, spread and interval of each metric over scans. Where a metric is None the scan is left out and counted."""
    return {name: _summary([getattr(metrics, name) for metrics in found]) for name in METRICS}


def _summary(values: Sequence[float | None]) -> MetricSummary | None:
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return MetricSummary(
        mean=fmean(defined),
        std=pstdev(defined),
        interval=mean_interval(defined),
        scans=len(defined),
        undefined=len(values) - len(defined),
    )
