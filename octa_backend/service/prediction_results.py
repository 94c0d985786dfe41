"""The results of a prediction job as one zip, made while it is sent: memory holds one picture, and the disk nothing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC
from itertools import chain
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from octa_backend.data.scan_files import picture_names
from octa_backend.errors import IllegalJobState
from octa_backend.inference.measurement_table import (
    COLUMNS,
    ENCODING,
    Row,
    csv_line,
    measurement_rows,
    scan_columns,
    scan_row,
)
from octa_backend.service import model_service, prediction_job_service
from octa_backend.service.predict_service import NOTICE
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionFailure, PredictionJob
from octa_backend.storage.tables import JobState

PAGE = 200  # rows that are read at a time
PICTURES = {"masks": "mask.png", "overlays": "overlay.png", "measured": "measurement.png"}
"""Folder of the zip -> picture of a prediction; the last one where it was asked for."""
ERROR_COLUMNS = ("scan", "reason")

Found = TypeVar("Found", KeptPrediction, PredictionFailure)


def results(database: Database, files: Files, prediction_job_id: str) -> Iterator[bytes]:
    """The zip, piece by piece.

    Raises:
        PredictionJobNotFound: there is no such job.
        IllegalJobState: the job is not over; raised at once, not with the first piece.
    """
    with database.reading() as session:
        job = prediction_job_service.get(session, prediction_job_id)
    if not JobState(job.state).is_final:
        raise IllegalJobState(f"prediction job {job.id} is {job.state}; its results are there when it is over")
    return _pieces(database, files, job)


class _Pipe(io.RawIOBase):
    """A file that is written to the front and emptied at the back."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._waiting += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since it was last asked for."""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


def _pieces(database: Database, files: Files, job: PredictionJob) -> Iterator[bytes]:
    pipe = _Pipe()
    # A client that goes away ends this early; what is being written must be closed before the zip is.
    with zipfile.ZipFile(pipe, "w") as archive, closing(_written(archive, database, files, job)) as steps:
        for _ in steps:
            yield pipe.taken()
    yield pipe.taken()


def _written(
    archive: zipfile.ZipFile, database: Database, files: Files, job: PredictionJob
) -> Generator[None, None, None]:
    """Write the zip's files; a step for each of them or for each row."""
    archive.writestr(_entry(job, "README.txt"), read_me(job))
    yield from _add_pictures(archive, files, database, job)
    yield from _add_tables(archive, database, job)


def _entry(job: PredictionJob, name: str, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    made = (job.finished_at or job.created_at).astimezone(UTC)
    entry = zipfile.ZipInfo(name, made.timetuple()[:6])
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    return entry


def _add_pictures(archive: zipfile.ZipFile, files: Files, database: Database, job: PredictionJob) -> Iterator[None]:
    names = picture_names(row.file for row in _all_predictions(database, job))
    for row in _all_predictions(database, job):
        for folder, picture in PICTURES.items():
            content = _content(files.prediction(row.id) / picture)
            if content is not None:  # it is packed already
                archive.writestr(_entry(job, f"{folder}/{names[row.file]}.png", zipfile.ZIP_STORED), content)
                yield


def _content(path: Path) -> bytes | None:
    """None where there is no such picture, or where it was deleted meanwhile."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _add_tables(archive: zipfile.ZipFile, database: Database, job: PredictionJob) -> Iterator[None]:
    with database.reading() as session:
        first = prediction_job_service.predictions(session, job.id, 1)
    if first:
        heads = scan_columns(first[0].measurements)
        rows = (scan_row(_facts(row), row.measurements) for row in _all_predictions(database, job))
        yield from _add_table(archive, job, "scans.csv", chain([heads], rows))
    if first and first[0].measurements:
        every = (measurement_rows(row.file, row.measurements) for row in _all_predictions(database, job))
        yield from _add_table(archive, job, "measurements.csv", chain([COLUMNS], chain.from_iterable(every)))
    if job.failed:
        failed = ((row.file, row.reason) for row in _all_failures(database, job))
        yield from _add_table(archive, job, "errors.csv", chain([ERROR_COLUMNS], failed))


def _facts(row: KeptPrediction) -> Row:
    confidence = row.confidence["mean"], row.confidence["uncertain_fraction"]
    return row.file, row.width, row.height, row.threshold, row.foreground_fraction, *confidence


def _add_table(archive: zipfile.ZipFile, job: PredictionJob, name: str, rows: Iterable[Row]) -> Iterator[None]:
    with archive.open(_entry(job, name), "w") as binary, io.TextIOWrapper(binary, ENCODING, newline="") as file:
        for row in rows:
            file.write(csv_line(row))
            yield


def _all_predictions(database: Database, job: PredictionJob) -> Iterator[KeptPrediction]:
    return _in_order(database, lambda session, after: prediction_job_service.predictions(session, job.id, PAGE, after))


def _all_failures(database: Database, job: PredictionJob) -> Iterator[PredictionFailure]:
    return _in_order(database, lambda session, after: prediction_job_service.failures(session, job.id, PAGE, after))


def _in_order(database: Database, page: Callable[[Session, int], Sequence[Found]]) -> Iterator[Found]:
    """All rows, a page in memory at a time, with no transaction open between them."""
    after = -1
    while True:
        with database.reading() as session:
            rows = page(session, after)
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1].position  # type: ignore[assignment]


def read_me(job: PredictionJob) -> str:
    """What the zip holds, and how it was made."""
    versions = {name: version for name, version in model_service.versions().items() if version is not None}
    return f"""Predictions of {job.total} scans ({job.name}), research use only

masks/            0 and 255, or class indices with more than two classes; at the scans' own sizes
overlays/         the scans with each foreground class tinted
measured/         what was measured, drawn (where it was asked for)
scans.csv         a row for each scan: size, share of foreground, confidence, and the values of all measurements
measurements.csv  a row for each scan and measurement, with its unit, or the reason why there is none
errors.csv        scans that could not be predicted, and why (where there are some)

job        {job.id}, {job.state}{f": {job.error}" if job.error else ""}
model      {job.model_id}
scans      {job.total}, of these predicted {job.processed - job.failed}, failed {job.failed}; {job.ignored} other files
made       {job.created_at.isoformat()} to {job.finished_at.isoformat() if job.finished_at else "…"}
options    {json.dumps(job.options, ensure_ascii=False)}
versions   {json.dumps(versions, ensure_ascii=False)}
notice     {NOTICE}
"""
