"""The evaluation as one HTML file that needs nothing else: tables, curves as SVG, pictures as embedded PNG."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from octa_backend.inference.difference_picture import INVENTED, MISSED, MIXED_UP, RIGHT
from octa_backend.inference.symmetries import SYMMETRIES
from octa_backend.training.evaluation_curves import Line, chart
from octa_backend.training.evaluation_report import EvaluationReport, MetricSummary, ScanResult, Subject, Summary
from octa_backend.training.evaluation_words import (
    COLUMNS,
    COST,
    CURVE_NAMES,
    HEADINGS,
    LEGEND,
    METRIC_NAMES,
    NOTES,
    SENTENCES,
    SUBJECT,
    Words,
)
from octa_backend.training.html_parts import NONE, both, facts, note, page, plain, section, shown, table
from octa_backend.training.ignored import dataset_class
from octa_backend.training.run_facts import RunFacts
from octa_backend.training.scan_metrics import Scale
from octa_backend.training.threshold import THRESHOLDS

BLUE, ORANGE = "#2a6fdb", "#e07b00"


@dataclass(frozen=True, slots=True)
class Picture:
    """A scan beside its masks, as PNG."""

    scan: str
    png: bytes


def to_html(report: EvaluationReport, pictures: Sequence[Picture]) -> str:
    """The whole page."""
    return page(
        f"{report.subject.model} · {report.subject.dataset}",
        [
            f"<h1>{both(HEADINGS['title'])}</h1>",
            notes(report.notes),
            section(HEADINGS["summary"], summary_table(report.summary, report.subject.scale)),
            *class_sections(report),
            picture_section(report, pictures),
            section(HEADINGS["threshold"], _threshold(report)) if report.tuned else "",
            section(HEADINGS["curves"], _curves(report.history)),
            *(_training(report.training) if report.training else ()),
            section(HEADINGS["subject"], subject_table(report.subject)),
            section(HEADINGS["scans"], scan_table(report.scans, report.subject.scale)),
            f"<p>{both(SENTENCES['notice'])}</p>",
        ],
    )


def notes(codes: Sequence[str]) -> str:
    """What a reader must know, or nothing."""
    return section(HEADINGS["notes"], "\n".join(note(NOTES[code]) for code in codes)) if codes else ""


def _metric_name(name: str, scale: Scale) -> str:
    return both(METRIC_NAMES[name], scale.unit_of(name))


# --- the sections ---------------------------------------------------------------------------------------------------


def summary_table(summary: Summary, scale: Scale) -> str:
    """Each metric over scans: mean, spread, interval."""
    head = (both(COLUMNS[name]) for name in ("metric", "mean", "std", "interval", "defined", "undefined"))
    return table(head, ([_metric_name(name, scale), *_summary_cells(name, summary[name])] for name in scale.metrics))


def _summary_cells(name: str, found: MetricSummary | None) -> list[str]:
    if found is None:
        return [NONE] * 3 + ["0", NONE]
    interval = f"{shown(name, found.interval.low)} … {shown(name, found.interval.high)}" if found.interval else NONE
    return [shown(name, found.mean), shown(name, found.std), interval, str(found.scans), str(found.undefined)]


def class_sections(report: EvaluationReport) -> list[str]:
    """A table per class, as the dataset numbers it, where there are several, and one per region."""
    scale, ignore_index = report.subject.scale, report.subject.ignore_index
    classes = report.class_summaries if len(report.class_summaries) > 1 else ()
    return [
        *(
            section(HEADINGS["class"], summary_table(summary, scale), str(dataset_class(index, ignore_index)))
            for index, summary in enumerate(classes, start=1)
        ),
        *(
            section(HEADINGS["region"], summary_table(summary, scale), name)
            for name, summary in report.region_summaries.items()
        ),
    ]


def picture_section(report: EvaluationReport, pictures: Sequence[Picture]) -> str:
    """The worst scans, or nothing without pictures."""
    return section(HEADINGS["worst"], _pictures(report, pictures)) if pictures else ""


def _pictures(report: EvaluationReport, pictures: Sequence[Picture]) -> str:
    scores = {scan.name: scan.metrics.overall.dice for scan in report.scans}
    colours = {"hit": RIGHT, "invented": INVENTED, "missed": MISSED}
    if report.subject.classes > 2:
        colours["mixed_up"] = MIXED_UP
    keys = "".join(
        f'<span class="swatch" style="background:{colour}"></span>{both(LEGEND[key])}'
        for key, colour in colours.items()
    )
    figures = "\n".join(
        f"<figure><figcaption>{escape(picture.scan)}: Dice {scores[picture.scan]:.4f}</figcaption>"
        f'<img alt="{escape(picture.scan)}" src="data:image/png;base64,{base64.b64encode(picture.png).decode()}">'
        "</figure>"
        for picture in pictures
    )
    return f"<p>{both(LEGEND['panels'])}</p>\n<p>{keys}</p>\n{figures}"


def _threshold(report: EvaluationReport) -> str:
    tuned = report.tuned
    assert tuned is not None
    facts = {
        "scans": str(tuned.scans),
        "threshold": f"{tuned.threshold:g}",
        "dice": f"{tuned.dice:.4f}",
        "usual_dice": f"{tuned.usual_dice:.4f}",
    }
    sentence = Words(*(text.format(**facts) for text in SENTENCES["tuned"]))
    line = Line("Dice", BLUE, list(zip(THRESHOLDS, tuned.curve, strict=True)))
    drawn = chart(plain(CURVE_NAMES["threshold"]), plain(SUBJECT["threshold"]), [line])
    return f'<p>{both(sentence)}</p>\n<div class="charts">{drawn}</div>'


def _curves(history: Sequence[Mapping[str, float | None]]) -> str:
    if not history:
        return f"<p>{both(SENTENCES['no_history'])}</p>"

    def line(field: str, name: str, colour: str) -> Line:
        return Line(plain(CURVE_NAMES[name]), colour, [(epoch["epoch"] or 0, epoch[field]) for epoch in history])

    charts = {
        "loss": [line("train_loss", "train", BLUE), line("val_loss", "val", ORANGE)],
        "dice": [line("val_dice", "dice", ORANGE)],
        "lr": [line("lr", "lr", BLUE)],
    }
    epoch = plain(CURVE_NAMES["epoch"])
    drawn = (chart(plain(CURVE_NAMES[name]), epoch, lines, x_step=1) for name, lines in charts.items())
    return f'<div class="charts">{"".join(drawn)}</div>'


def _training(training: RunFacts) -> list[str]:
    """What the run cost, and what the plan decided."""
    cost = {
        "epochs": str(training.epochs),
        "best_epoch": str(training.best_epoch),
        "seconds_per_epoch": f"{training.seconds_per_epoch:.3g} s",
        "seconds_per_batch": f"{training.seconds_per_batch:.3g} s",
        "scans_per_second": f"{training.scans_per_second:.3g}",
        "peak_memory_mb": f"{training.peak_memory_mb:.0f} MiB",
        "patch_shape": " × ".join(map(str, training.patch_shape)),
    }
    reasons = ([escape(str(one[name])) for name in ("field", "value", "reason")] for one in training.reasons)
    settings = ", ".join(f"{name}={NONE if value is None else value}" for name, value in training.config.items())
    return [
        section(HEADINGS["cost"], facts((both(COST[name]), value) for name, value in cost.items())),
        section(HEADINGS["plan"], f'{facts(reasons)}\n<p class="config">{escape(settings)}</p>'),
    ]


def subject_table(subject: Subject) -> str:
    """What was evaluated, and with what."""
    scale = subject.scale
    shown_facts = {
        **{name: getattr(subject, name) for name in ("model", "network", "dataset", "sha256", "split", "classes")},
        "threshold": NONE if subject.threshold is None else f"{subject.threshold:g}",
        "views": subject.views or (len(SYMMETRIES) if subject.tta else 1),
        "spacing": " × ".join(f"{side:g}" for side in scale.spacing) + f" {scale.unit}",
        "tolerance": f"{scale.tolerance:g} {scale.unit}",
        **{name: getattr(subject, name) for name in ("device", "precision", "created_at")},
        "versions": ", ".join(f"{name} {version}" for name, version in subject.versions.items() if version),
    }
    return facts((both(SUBJECT[name]), escape(str(value))) for name, value in shown_facts.items())


def scan_table(scans: Sequence[ScanResult], scale: Scale) -> str:
    """A row per scan."""
    head = [both(COLUMNS[name]) for name in ("scan", "split")]
    head += [_metric_name(name, scale) for name in scale.metrics]
    head += [both(COLUMNS[name]) for name in ("true_fraction", "found_fraction")]
    return table(head, (_scan_row(scan, scale) for scan in scans))


def _scan_row(scan: ScanResult, scale: Scale) -> list[str]:
    metrics = [shown(name, getattr(scan.metrics.overall, name)) for name in scale.metrics]
    shares = [f"{share:.1%}" for share in (scan.true_fraction, scan.found_fraction)]
    return [escape(scan.name), scan.split or NONE, *metrics, *shares]
