"""The results of a prediction job as one zip, made while it is sent: memory holds one picture, and the disk nothing."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain

from octa_backend.data.scan_files import picture_names
from octa_backend.errors import IllegalJobState
from octa_backend.inference.measurement_table import (
    COLUMNS,
    Row,
    measurement_rows,
    scan_columns,
    scan_row,
)
from octa_backend.service import model_service, prediction_job_service
from octa_backend.service.predict_service import NOTICE
from octa_backend.service.results_zip import ResultsZip
from octa_backend.service.volume_results import CONTENTS, add_volumes
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionJob
from octa_backend.storage.tables import JobState

PICTURES = {
    "masks": "mask.png",
    "overlays": "overlay.png",
    "probabilities": "probability.png",
    "confidence": "confidence.png",
    "measured": "measurement.png",
}
"""Folder of the zip -> picture of a prediction; the last three where they were asked for."""

CONTENTS_OF_PICTURES = """\
masks/            0 and 255, or class indices with more than two classes; at the scans' own sizes
overlays/         the scans with each foreground class tinted
probabilities/    of foreground, 0 to 65535 (where they were asked for)
confidence/       probability of the class chosen, 0 to 255 (where it was asked for)
measured/         what was measured, drawn (where it was asked for)
scans.csv         a row for each scan: size, share of foreground, confidence, and the values of all measurements
measurements.csv  a row for each scan and measurement, with its unit, or the reason why there is none
errors.csv        scans that could not be predicted, and why (where there are some)"""


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
    with zipfile.ZipFile(pipe, "w") as archive:
        steps = _written(ResultsZip(archive, database, files, job))
        # A client that goes away ends this early; what is being written must be closed before the zip is.
        with closing(steps):
            for _ in steps:
                yield pipe.taken()
    yield pipe.taken()


def _written(results: ResultsZip) -> Generator[None, None, None]:
    """Write the zip's files; a step for each of them or for each row."""
    results.add_text("README.txt", read_me(results.job))
    yield from add_volumes(results) if results.job.spatial_dims == 3 else _add_scans(results)
    yield from results.add_errors()


def _add_scans(results: ResultsZip) -> Iterator[None]:
    names = picture_names(row.file for row in results.predictions())
    wanted = _wanted(results.job)
    for row in results.predictions():
        for folder, picture in wanted.items():
            if results.add_packed(f"{folder}/{names[row.file]}.png", results.files.prediction(row.id) / picture):
                yield
    with results.database.reading() as session:
        first = prediction_job_service.predictions(session, results.job.id, 1)
    if first:
        heads = scan_columns(first[0].measurements)
        rows = (scan_row(_facts(row), row.measurements) for row in results.predictions())
        yield from results.add_table("scans.csv", chain([heads], rows))
    if first and first[0].measurements:
        every = (measurement_rows(row.file, row.measurements) for row in results.predictions())
        yield from results.add_table("measurements.csv", chain([COLUMNS], chain.from_iterable(every)))


def _wanted(job: PredictionJob) -> dict[str, str]:
    """Of `PICTURES` those that the zip has. Probability is kept for the history where nobody asked for it, too."""
    asked = job.options.get("with_probability", False)
    return {folder: picture for folder, picture in PICTURES.items() if asked or folder != "probabilities"}


def _facts(row: KeptPrediction) -> Row:
    confidence = row.confidence["mean"], row.confidence["uncertain_fraction"]
    return row.file, row.width, row.height, row.threshold, row.foreground_fraction, *confidence


def read_me(job: PredictionJob) -> str:
    """What the zip holds, and how it was made."""
    versions = {name: version for name, version in model_service.versions().items() if version is not None}
    return f"""Predictions of {job.total} scans ({job.name}), research use only

{CONTENTS if job.spatial_dims == 3 else CONTENTS_OF_PICTURES}

job        {job.id}, {job.state}{f": {job.error}" if job.error else ""}
model      {job.model_id}
scans      {job.total}, of these predicted {job.processed - job.failed}, failed {job.failed}; {job.ignored} other files
made       {job.created_at.isoformat()} to {job.finished_at.isoformat() if job.finished_at else "…"}
options    {json.dumps(job.options, ensure_ascii=False)}
versions   {json.dumps(versions, ensure_ascii=False)}
notice     {NOTICE}
"""
