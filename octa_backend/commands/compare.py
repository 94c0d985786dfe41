"""`octa compare`: several models on the scans of one zip, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from octa_backend.commands.model_argument import find_model
from octa_backend.commands.prepared_zip import PreparedZip, prepared_zip
from octa_backend.inference.model_folder import read_card
from octa_backend.service.comparison_run import compare as compare_models
from octa_backend.service.comparison_run import scans_to_compare
from octa_backend.service.comparison_table import COMPARED, table_csv
from octa_backend.settings import Settings
from octa_backend.storage.files import write_aside
from octa_backend.storage.outputs import keep_apart, output_file
from octa_backend.training.evaluation_words import METRIC_NAMES
from octa_backend.training.html_parts import shown


def compare(
    console: Console, settings: Settings, models: Sequence[str], archive: Path, split: str, out: Path | None
) -> None:
    """Score models on the same scans of a zip.

    Args:
        console: shows the table.
        settings: device, limits, data folder.
        models: folders, or ids in the data folder.
        archive: the zip.
        split: "test", "val" or "all".
        out: the CSV file to write, or None.

    Raises:
        ModelNotFound: a model is neither a folder nor an id in the data folder.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: the zip does not fit.
        OctaError: models and zip do not fit together, or `out` cannot be written.
    """
    keep_apart(out, archive, "the dataset itself")
    beside = Path.cwd() if out is None else output_file(out.absolute()).parent
    folders = [find_model(settings, model) for model in models]
    cards = [read_card(folder) for folder in folders]
    with prepared_zip(console, archive, beside, settings) as prepared:
        table = _compared(console, settings.device, folders, cards, prepared, split)
    _show(console, table)
    if out is not None:
        write_aside(out, table_csv(table).encode())
        console.print(f"the table is in {out}", markup=False, soft_wrap=True)


def _compared(
    console: Console,
    device: str,
    folders: Sequence[Path],
    cards: Sequence[Mapping[str, Any]],
    prepared: PreparedZip,
    split: str,
) -> dict[str, Any]:
    data = prepared.open()
    indices = scans_to_compare(data, cards, split)
    columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=len(indices) * len(folders))

        def on_scan(model: str, scan: str) -> None:
            progress.update(task, advance=1, description=escape(f"{model}: {scan}"))

        return compare_models(folders, cards, data, indices, split, device, on_scan).to_dict()


def _show(console: Console, found: Mapping[str, Any]) -> None:
    """A column for each model, so that many metrics fit."""
    title = f"{found['dataset']}, {found['split']}: {len(found['scans'])} scans, on {found['device']}; mean ± sd"
    rows = found["models"]
    table = Table("", title=Text(title), title_justify="left")
    for row in rows:
        table.add_column(Text(row["model_id"]))
    table.add_row("network", *(row["network"] for row in rows))
    for name in COMPARED:
        unit = f" ({found['unit']})" if name == "hd95" else ""
        table.add_row(METRIC_NAMES[name].en + unit, *(_mean_sd(name, row["metrics"][name]) for row in rows))
    classes = max(len(row["classes"]) for row in rows)
    for number in range(classes if classes > 1 else 0):
        table.add_row(f"Dice, class {number + 1}", *(_mean_sd("dice", row["classes"][number]) for row in rows))
    table.add_row("parameters", *(f"{row['parameters']:,}" for row in rows))
    table.add_row("ms per scan", *(f"{row['milliseconds_per_scan']:.1f}" for row in rows))
    console.print(table)
    for row in rows:
        for warning in row["warnings"]:
            console.print(f"{row['model_id']}: {warning['message']}", markup=False, soft_wrap=True)


def _mean_sd(name: str, numbers: Mapping[str, float] | None) -> str:
    if numbers is None:
        return "–"
    return f"{shown(name, numbers['mean'])} ± {shown(name, numbers['std'])}"
