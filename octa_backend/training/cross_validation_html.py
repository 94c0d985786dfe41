"""The report of a cross-validation as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from octa_backend.training.cross_validation import CrossValidation
from octa_backend.training.evaluation_html import (
    Picture,
    class_sections,
    notes,
    picture_section,
    scan_table,
    subject_table,
    summary_table,
)
from octa_backend.training.evaluation_report import EvaluationReport
from octa_backend.training.evaluation_words import COLUMNS, FOLDS, HEADINGS, SENTENCES, Words
from octa_backend.training.html_parts import NONE, both, page, section, shown, table


def to_html(found: CrossValidation, pictures: Sequence[Picture]) -> str:
    """The whole page; `pictures` are of the test scans."""
    about = (found.test or found.out_of_fold).subject
    config = ", ".join(f"{name}={NONE if value is None else value}" for name, value in found.config.items())
    return page(
        f"{found.model} · {about.dataset}",
        [
            f"<h1>{both(FOLDS['title'])}</h1>",
            notes(found.out_of_fold.notes),
            section(FOLDS["folds"], _folds(found)),
            *_part(FOLDS["out_of_fold"], found.out_of_fold),
            *(_part(FOLDS["test"], found.test) if found.test else ()),
            picture_section(found.test, pictures) if found.test else "",
            section(HEADINGS["subject"], subject_table(about)),
            section(FOLDS["config"], f'<p class="config">{escape(config)}</p>'),
            *(_scans(FOLDS["test_scans"], found.test) if found.test else ()),
            *_scans(FOLDS["out_of_fold_scans"], found.out_of_fold),
            f"<p>{both(SENTENCES['notice'])}</p>",
        ],
    )


def _folds(found: CrossValidation) -> str:
    head = (both(words) for words in (FOLDS["fold"], FOLDS["model"], FOLDS["epoch"], COLUMNS["defined"], FOLDS["dice"]))
    rows = [
        [str(one.fold), escape(one.model), str(one.epoch), str(one.scans), shown("dice", one.dice)]
        for one in found.folds
    ]
    dice = {name: shown("dice", getattr(found.dice, name)) for name in ("mean", "std", "low", "high")}
    sentence = Words(*(text.format(**dice) for text in FOLDS["spread"]))
    return f"{table(head, rows)}\n<p>{both(sentence)}</p>"


def _part(heading: Words, report: EvaluationReport) -> list[str]:
    return [section(heading, summary_table(report.summary, report.subject.scale)), *class_sections(report)]


def _scans(heading: Words, report: EvaluationReport) -> list[str]:
    return [section(heading, scan_table(report.scans, report.subject.scale))]
