"""The evaluation as one HTML file that needs nothing else: tables, curves as SVG, pictures as embedded PNG."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from octa_backend.training.evaluation_curves import Line, chart
from octa_backend.training.evaluation_report import EvaluationReport, MetricSummary, ScanResult, Subject, Summary
from octa_backend.training.evaluation_words import (
    COLUMNS,
    CURVE_NAMES,
    HEADINGS,
    LEGEND,
    METRIC_NAMES,
    NOTES,
    SENTENCES,
    SUBJECT,
    Words,
)
from octa_backend.training.scan_metrics import DISTANCES, METRICS, Scale
from octa_backend.training.threshold import THRESHOLDS

NONE = "–"
BLUE, ORANGE = "#2a6fdb", "#e07b00"

HIT, INVENTED, MISSED, MIXED_UP = "#34c759", "#ff3b30", "#0a84ff", "#ffcc00"
"""Colours of the comparison: right, false positive, false negative, wrong class."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; max-width: 76rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.zh { opacity: .65; font-weight: normal; font-size: .88em; margin-left: .45em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { vertical-align: bottom; } thead .zh { display: block; margin: 0; }
.facts td { text-align: left; word-break: break-word; }
.note { border-left: 4px solid #e07b00; padding: .3rem .8rem; margin: .5rem 0; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts svg { width: 24rem; max-width: 100%; }
svg text { font-size: 11px; fill: currentColor; } svg text.title { font-size: 13px; font-weight: 600; }
figure { margin: 1rem 0; } figure img { width: 60rem; max-width: 100%; image-rendering: pixelated;
                                  border: 1px solid var(--line); }
.swatch { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
""".strip()


@dataclass(frozen=True, slots=True)
class Picture:
    """A scan beside its masks, as PNG."""

    scan: str
    png: bytes


def to_html(report: EvaluationReport, pictures: Sequence[Picture]) -> str:
    """The whole page. Nothing is loaded from anywhere: the page's own policy forbids it."""
    body = [
        f"<h1>{_both(HEADINGS['title'])}</h1>",
        _section("notes", "\n".join(map(_note, report.notes))) if report.notes else "",
        _section("summary", _summary_table(report.summary, report.subject.scale)),
        *_classes(report),
        _section("worst", _pictures(report, pictures)) if pictures else "",
        _section("threshold", _threshold(report)) if report.tuned else "",
        _section("curves", _curves(report.history)),
        _section("subject", _subject(report.subject)),
        _section("scans", _scan_table(report.scans, report.subject.scale)),
        f"<p>{_both(SENTENCES['notice'])}</p>",
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(report.subject.model)} · {escape(report.subject.dataset)}</title>\n"
        f"<style>\n{_STYLE}\n</style>\n</head>\n<body>\n" + "\n".join(filter(None, body)) + "\n</body>\n</html>\n"
    )


def _both(words: Words, addition: str = "") -> str:
    more = f" ({escape(addition)})" if addition else ""
    return f'{escape(words.en)}{more}<span class="zh" lang="zh">{escape(words.zh)}</span>'


def _section(heading: str, content: str, addition: str = "") -> str:
    return f"<section>\n<h2>{_both(HEADINGS[heading], addition)}</h2>\n{content}\n</section>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already."""
    titles = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def shown(name: str, value: float | None) -> str:
    """A metric as people read it: lengths with two digits, shares with four."""
    return NONE if value is None else f"{value:.{2 if name in DISTANCES else 4}f}"


def _metric_name(name: str, scale: Scale) -> str:
    return _both(METRIC_NAMES[name], scale.unit if name in DISTANCES else "")


# --- the sections ---------------------------------------------------------------------------------------------------


def _note(code: str) -> str:
    return f'<p class="note">{_both(NOTES[code])}</p>'


def _summary_table(summary: Summary, scale: Scale) -> str:
    head = (_both(COLUMNS[name]) for name in ("metric", "mean", "std", "interval", "defined", "undefined"))
    return _table(head, ([_metric_name(name, scale), *_summary_cells(name, summary[name])] for name in METRICS))


def _summary_cells(name: str, found: MetricSummary | None) -> list[str]:
    if found is None:
        return [NONE] * 3 + ["0", NONE]
    interval = f"{shown(name, found.interval.low)} … {shown(name, found.interval.high)}" if found.interval else NONE
    return [shown(name, found.mean), shown(name, found.std), interval, str(found.scans), str(found.undefined)]


def _classes(report: EvaluationReport) -> list[str]:
    """A table per class where there are several."""
    if len(report.class_summaries) == 1:
        return []
    return [
        _section("class", _summary_table(summary, report.subject.scale), str(index))
        for index, summary in enumerate(report.class_summaries, start=1)
    ]


def _pictures(report: EvaluationReport, pictures: Sequence[Picture]) -> str:
    scores = {scan.name: scan.metrics.overall.dice for scan in report.scans}
    colours = {"hit": HIT, "invented": INVENTED, "missed": MISSED}
    if report.subject.classes > 2:
        colours["mixed_up"] = MIXED_UP
    keys = "".join(
        f'<span class="swatch" style="background:{colour}"></span>{_both(LEGEND[key])}'
        for key, colour in colours.items()
    )
    figures = "\n".join(
        f"<figure><figcaption>{escape(picture.scan)}: Dice {scores[picture.scan]:.4f}</figcaption>"
        f'<img alt="{escape(picture.scan)}" src="data:image/png;base64,{base64.b64encode(picture.png).decode()}">'
        "</figure>"
        for picture in pictures
    )
    return f"<p>{_both(LEGEND['panels'])}</p>\n<p>{keys}</p>\n{figures}"


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
    drawn = chart(_plain(CURVE_NAMES["threshold"]), _plain(SUBJECT["threshold"]), [line])
    return f'<p>{_both(sentence)}</p>\n<div class="charts">{drawn}</div>'


def _plain(words: Words) -> str:
    return f"{words.en} {words.zh}"


def _curves(history: Sequence[Mapping[str, float | None]]) -> str:
    if not history:
        return f"<p>{_both(SENTENCES['no_history'])}</p>"

    def line(field: str, name: str, colour: str) -> Line:
        return Line(_plain(CURVE_NAMES[name]), colour, [(epoch["epoch"] or 0, epoch[field]) for epoch in history])

    charts = {
        "loss": [line("train_loss", "train", BLUE), line("val_loss", "val", ORANGE)],
        "dice": [line("val_dice", "dice", ORANGE)],
        "lr": [line("lr", "lr", BLUE)],
    }
    epoch = _plain(CURVE_NAMES["epoch"])
    drawn = (chart(_plain(CURVE_NAMES[name]), epoch, lines, x_step=1) for name, lines in charts.items())
    return f'<div class="charts">{"".join(drawn)}</div>'


def _subject(subject: Subject) -> str:
    scale = subject.scale
    facts = {
        **{name: getattr(subject, name) for name in ("model", "network", "dataset", "sha256", "split", "classes")},
        "threshold": NONE if subject.threshold is None else f"{subject.threshold:g}",
        "spacing": " × ".join(f"{side:g}" for side in scale.spacing) + f" {scale.unit}",
        "tolerance": f"{scale.tolerance:g} {scale.unit}",
        **{name: getattr(subject, name) for name in ("device", "precision", "created_at")},
        "versions": ", ".join(f"{name} {version}" for name, version in subject.versions.items() if version),
    }
    rows = "\n".join(
        f"<tr><td>{_both(SUBJECT[name])}</td><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    return f'<table class="facts"><tbody>\n{rows}\n</tbody></table>'


def _scan_table(scans: Sequence[ScanResult], scale: Scale) -> str:
    head = [_both(COLUMNS[name]) for name in ("scan", "split")]
    head += [_metric_name(name, scale) for name in METRICS]
    head += [_both(COLUMNS[name]) for name in ("true_fraction", "found_fraction")]
    return _table(head, map(_scan_row, scans))


def _scan_row(scan: ScanResult) -> list[str]:
    metrics = [shown(name, getattr(scan.metrics.overall, name)) for name in METRICS]
    shares = [f"{share:.1%}" for share in (scan.true_fraction, scan.found_fraction)]
    return [escape(scan.name), scan.split or NONE, *metrics, *shares]
