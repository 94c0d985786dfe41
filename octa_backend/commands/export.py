"""`octa export`: a model's graph for other programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from rich.console import Console

from octa_backend.commands.model_argument import find_model
from octa_backend.inference.export_record import RECORD_FILE, ExportFormat
from octa_backend.service.export_service import export_files
from octa_backend.service.exporter import Exporter
from octa_backend.settings import Settings
from octa_backend.storage.outputs import output_folder


def export(console: Console, settings: Settings, model: str, wanted: ExportFormat, out: Path) -> None:
    """Export a model, compare it with torch, and copy what is to be handed out into a folder.

    Raises:
        ModelNotFound: there is no such folder, and no model with this id in the data folder.
        ExportFailed: the model cannot be exported so.
        OctaError: the folder cannot be written to.
    """
    output_folder(out)
    with console.status(f"exporting {model} as {wanted}, and comparing its masks with torch's"):
        files = export_files(Exporter(), find_model(settings, model), wanted)
    for name, path in files.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        if path.name == RECORD_FILE:
            record = json.loads(path.read_text("utf-8"))
            agreement = ", ".join(f"{share:.4%} in {name}" for name, share in record["agreement"].items())
            console.print(f"pixels with torch's class on {record['checked_on']} scans: {agreement}", markup=False)
    console.print(f"{wanted} is in {out}: {', '.join(files)}", markup=False, soft_wrap=True)
