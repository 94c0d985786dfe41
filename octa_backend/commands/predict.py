"""`octa predict`: masks, overlays and measurements of scans on disk."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.progress import track

from octa_backend.commands.model_argument import find_model
from octa_backend.data.archive import Archive
from octa_backend.data.examination import Source
from octa_backend.data.folder import Folder
from octa_backend.data.normalise import to_unit
from octa_backend.data.scan_files import distinct, is_zip, picture_names, read_scan, scan_names
from octa_backend.data.scans import read_image
from octa_backend.errors import ScanTooLarge, UnreadableScan
from octa_backend.inference import pictures
from octa_backend.inference.measurement_picture import measurement_picture
from octa_backend.inference.measurement_table import (
    COLUMNS,
    csv_line,
    measurement_rows,
    shown_measurements,
    table_file,
)
from octa_backend.inference.measurements import measure
from octa_backend.service.predict_service import PredictOptions, load_predictor
from octa_backend.service.prediction_job_service import open_zip
from octa_backend.service.prediction_results import ERROR_COLUMNS
from octa_backend.settings import Settings

if TYPE_CHECKING:
    from octa_backend.inference.predictor import Predictor

MEASUREMENTS_FILE = "measurements.csv"
ERRORS_FILE = "errors.csv"


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan to predict.

    Attributes:
        name: as tables name it: the file's name, or its path below the folder or in the zip.
        opened: gives its content.
        alone: it was named by itself; if it cannot be read, nothing is.
    """

    name: str
    opened: Callable[[], Path | BinaryIO]
    alone: bool


def predict(
    console: Console, settings: Settings, model: str, images: Sequence[Path], out: Path, options: PredictOptions
) -> None:
    """Segment each scan and write its mask and overlay; write the measurements of all into one table.

    Scans of folders and zips that cannot be read are told of in a table of their own, and the others are predicted.

    Raises:
        ModelNotFound: there is no such folder, and no model with this id in the data folder.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: a folder or a zip does not fit, or holds no image.
        UnreadableScan, ScanTooLarge: a file that was named is no image, or has too many pixels; or all are.
    """
    predictor = load_predictor(find_model(settings, model), settings.device, settings.engine)
    with ExitStack() as stack:
        scans = _distinct([scan for path in images for scan in _scans(path, settings, stack)])
        out.mkdir(parents=True, exist_ok=True)
        table = None
        if options.measuring is not None:
            table = stack.enter_context(table_file(out / MEASUREMENTS_FILE, COLUMNS))
        names, failures = picture_names(scan.name for scan in scans), []
        for scan in track(scans, "predicting", console=console):
            try:
                said = _predict_one(predictor, settings, scan, out / names[scan.name], options, table)
            except (UnreadableScan, ScanTooLarge) as error:
                if scan.alone:
                    raise
                failures.append((scan.name, error.message))
                said = f"left out: {error.message}"
            console.print(f"{scan.name}: {said}", markup=False)
    if len(failures) == len(scans):
        raise UnreadableScan(f"none of {len(scans)} scans could be read; {failures[0][1]}")
    _tell(console, out, failures, with_table=table is not None)


def _scans(path: Path, settings: Settings, stack: ExitStack) -> Iterator[Scan]:
    """The scans of a folder, of a zip, or the one file."""
    if not path.is_dir() and not is_zip(path, path.name):
        yield Scan(path.name, lambda: path, alone=True)
        return
    source: Folder | Archive
    if path.is_dir():
        source = stack.enter_context(Folder(path, max_files=settings.max_files))
    else:
        source = stack.enter_context(open_zip(path, settings))
    for name in scan_names(source):
        yield Scan(name, partial(_in_memory, source, name, settings.max_scan_pixels), alone=False)


def _in_memory(source: Source, name: str, max_pixels: int) -> BinaryIO:
    return io.BytesIO(read_scan(source, name, max_pixels))


def _distinct(scans: Sequence[Scan]) -> list[Scan]:
    """Scans of one name, from different folders, get a number, so that no picture is written over another one."""
    taken: set[str] = set()
    found = []
    for scan in scans:
        found.append(replace(scan, name=distinct(scan.name, taken)))
        taken.add(found[-1].name.casefold())
    return found


def _predict_one(
    predictor: Predictor, settings: Settings, scan: Scan, target: Path, options: PredictOptions, table: IO[str] | None
) -> str:
    """Write the pictures of one scan beside `target`, and its measurements; return what is said of it."""
    image = read_image(scan.opened(), scan.name, settings.max_scan_pixels)
    found = predictor.predict(image, threshold=options.threshold, tta=options.tta)
    unit_CHW = to_unit(image)
    overlay = pictures.overlay(unit_CHW, found.mask, predictor.classes, predictor.colours)
    drawn = {"mask": pictures.mask_picture(found.mask, predictor.classes), "overlay": overlay}
    if options.measuring is not None and table is not None:
        measured = measure(found.mask, predictor.classes, options.measuring)
        shown = shown_measurements(measured.values, options.language)
        table.writelines(csv_line(row) for row in measurement_rows(scan.name, shown))
        if options.with_picture:
            drawn["measured"] = measurement_picture(unit_CHW, measured)
    target.parent.mkdir(parents=True, exist_ok=True)
    for kind, picture in drawn.items():
        target.with_name(f"{target.name}_{kind}.png").write_bytes(pictures.png(picture))
    return f"foreground {found.foreground_fraction:.1%}, {found.seconds:.2f} s"


def _tell(console: Console, out: Path, failures: Sequence[tuple[str, str]], *, with_table: bool) -> None:
    console.print(f"masks and overlays are in {out}", markup=False)
    if with_table:
        console.print(f"measurements are in {out / MEASUREMENTS_FILE}", markup=False)
    if failures:
        with table_file(out / ERRORS_FILE, ERROR_COLUMNS) as table:
            table.writelines(csv_line(row) for row in failures)
        console.print(f"{len(failures)} scans could not be read: {out / ERRORS_FILE} says why", markup=False)
