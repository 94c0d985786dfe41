"""`octa evaluate`: a model's scores on a zip, as a table, `report.json` and `report.html`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from octa_backend.commands.model_argument import find_model
from octa_backend.commands.prepared_zip import PreparedZip, prepared_zip
from octa_backend.errors import JobNotFound, ModelNotFound
from octa_backend.service import model_service, train_service
from octa_backend.service.epoch_history import HISTORY_FILE, read_history
from octa_backend.service.evaluation_model import EvaluatedModel, open_model
from octa_backend.service.evaluation_run import Evaluation, EvaluationOptions, design_evaluation
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import write_aside
from octa_backend.storage.outputs import output_folder
from octa_backend.training.evaluation_html import to_html
from octa_backend.training.evaluation_report import CURVES, EvaluationReport, Summary
from octa_backend.training.evaluation_words import METRIC_NAMES, NOTES, SENTENCES
from octa_backend.training.html_parts import shown
from octa_backend.training.scan_metrics import Scale

MOST_EPOCHS = 10_000  # as many as a training can have


def evaluate(
    console: Console, settings: Settings, model: str, archive: Path, out: Path, options: EvaluationOptions, *, tta: bool
) -> None:
    """Score a model on the scans of a zip, with `tta` on the mean over several views of each.

    Raises:
        ModelNotFound: there is no such folder, and no model with this id in the data folder.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: the zip does not fit.
        OctaError: model, zip and options do not fit together, or `out` cannot be written to.
    """
    output_folder(out)
    folder = find_model(settings, model)
    opened = open_model(folder, settings.device, tta=tta)
    with prepared_zip(console, archive, out, settings) as prepared:
        found = _run(console, opened, prepared, options, _history(settings, folder))
    write_aside(out / "report.json", found.report.to_json().encode())
    write_aside(out / "report.html", to_html(found.report, found.pictures).encode())
    _show(console, found.report)
    console.print(f"the report is in {out / 'report.html'} and {out / 'report.json'}", markup=False, soft_wrap=True)


def _run(
    console: Console,
    opened: EvaluatedModel,
    prepared: PreparedZip,
    options: EvaluationOptions,
    history: list[dict[str, Any]],
) -> Evaluation:
    run = design_evaluation(opened, prepared.open(), options)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=run.total)
        return run.run(lambda name: progress.update(task, advance=1, description=escape(name)), history)


def _history(settings: Settings, model: Path) -> list[dict[str, Any]]:
    """The epochs of the training that made a model: from beside it, or from the data folder's database."""
    beside = read_history(model.parent / HISTORY_FILE)
    if beside or not settings.has_database:
        return beside
    with closing(Database(settings.effective_database_url)) as database:
        return _told_in(database, model.name) if database.is_ready() else []


def _told_in(database: Database, model_id: str) -> list[dict[str, Any]]:
    with database.reading() as session:
        try:
            job_id = model_service.get(session, model_id).job_id
            rows = train_service.epoch_reports(session, job_id, MOST_EPOCHS, None).rows if job_id else ()
        except (ModelNotFound, JobNotFound):  # a model from elsewhere, or one that outlived its job
            return []
        return [{name: getattr(row, name) for name in ("epoch", *CURVES)} for row in rows]


def _table(title: str, summary: Summary, scale: Scale) -> Table:
    table = Table("metric", "mean", "std", "95 % interval", "scans", title=Text(title), title_justify="left")
    for name in scale.metrics:
        found = summary[name]
        unit = f" ({scale.unit_of(name)})" if scale.unit_of(name) else ""
        if found is None:
            table.add_row(METRIC_NAMES[name].en + unit, "–", "–", "–", "0")
            continue
        low, high = found.interval or (None, None)
        interval = f"{shown(name, low)} … {shown(name, high)}"
        mean, std = shown(name, found.mean), shown(name, found.std)
        table.add_row(METRIC_NAMES[name].en + unit, mean, std, interval, str(found.scans))
    return table


def _show(console: Console, report: EvaluationReport) -> None:
    subject = report.subject
    title = f"{subject.model} on {subject.dataset}, {subject.split}: {len(report.scans)} scans"
    console.print(_table(title, report.summary, subject.scale))
    for region, summary in report.region_summaries.items():
        console.print(_table(f"region {region}", summary, subject.scale))
    for code in report.notes:
        console.print(NOTES[code].en, soft_wrap=True)
    if report.tuned is not None:
        facts = {**asdict(report.tuned), "threshold": f"{report.tuned.threshold:g}"}
        facts |= {name: f"{getattr(report.tuned, name):.4f}" for name in ("dice", "usual_dice")}
        console.print(SENTENCES["tuned"].en.format(**facts), highlight=False, soft_wrap=True)
    if subject.tta:
        console.print(f"each answer is the mean over {subject.views} views of the scan (tta)", highlight=False)
    if subject.threshold is not None:
        console.print(f"scored at a threshold of {subject.threshold:g}", highlight=False)
    console.print(f"lowest Dice: {', '.join(report.worst)}", markup=False, soft_wrap=True)
