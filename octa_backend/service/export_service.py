"""What is handed out of a model's exports: the graph, what it expects, and the card; an ensemble's members together."""

from __future__ import annotations

import zipfile
from pathlib import Path

from octa_backend.inference.export_record import ExportFormat, export_folder
from octa_backend.inference.model_folder import CARD_FILE, member_folders, read_card
from octa_backend.service.exporter import Exporter
from octa_backend.storage.files import move, part_name, remove


def export_files(exporter: Exporter, model: Path, wanted: ExportFormat) -> dict[str, Path]:
    """The files to hand out, by their names; those of an ensemble's members are in a folder for each.

    Args:
        exporter: makes what is not there yet.
        model: a published model's folder.
        wanted: the format.

    Raises:
        ExportFailed: the model cannot be exported so.
        IncompatibleCheckpoint: a member of the ensemble is not there.
    """
    files = {CARD_FILE: model / CARD_FILE}
    for member in member_folders(model, read_card(model)):
        record = exporter.ensure(member, wanted)
        inside = "" if member == model else f"{member.name}/"
        files |= {f"{inside}{path.name}": path for path in sorted(record.folder.iterdir())}
    return files


def export_archive(exporter: Exporter, model: Path, wanted: ExportFormat) -> Path:
    """The same as a zip, which is written once and kept beside the exports.

    Raises:
        ExportFailed, IncompatibleCheckpoint: as in `export_files`.
    """
    folder = export_folder(model, wanted)
    target = folder.with_name(f"{folder.name}.zip")
    if target.is_file():
        return target
    files = export_files(exporter, model, wanted)
    target.parent.mkdir(exist_ok=True)
    part = part_name(target)
    try:
        with zipfile.ZipFile(part, "x") as archive:  # weights do not shrink: stored, not compressed
            for name, path in files.items():
                archive.write(path, name)
        move(part, target)
    finally:
        remove(part)
    return target
