"""The zip of a prediction job's results while it is written: pictures and tables, a row or a file at a time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from octa_backend.inference.measurement_table import ENCODING, Row, csv_line
from octa_backend.service import prediction_job_service
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionFailure, PredictionJob

PAGE = 200  # rows that are read at a time
ERROR_COLUMNS = ("scan", "reason")

Found = TypeVar("Found", KeptPrediction, PredictionFailure)


@dataclass(frozen=True, slots=True)
class ResultsZip:
    """A zip that is open for writing, and the job whose results it gets."""

    archive: zipfile.ZipFile
    database: Database
    files: Files
    job: PredictionJob

    def add_text(self, name: str, text: str) -> None:
        """Write a text."""
        self.archive.writestr(self._entry(name), text)

    def add_packed(self, name: str, path: Path) -> bool:
        """Write a file that is packed already; False where there is none, or where it was deleted meanwhile."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return False
        self.archive.writestr(self._entry(name, zipfile.ZIP_STORED), content)
        return True

    def add_table(self, name: str, rows: Iterable[Row]) -> Iterator[None]:
        """Write a table; a step for each of its rows."""
        with (
            self.archive.open(self._entry(name), "w") as binary,
            io.TextIOWrapper(binary, ENCODING, newline="") as file,
        ):
            for row in rows:
                file.write(csv_line(row))
                yield

    def add_errors(self) -> Iterator[None]:
        """Write why scans could not be predicted, where there are some."""
        if self.job.failed:
            failed = ((row.file, row.reason) for row in self.failures())
            yield from self.add_table("errors.csv", [ERROR_COLUMNS, *failed])

    def predictions(self) -> Iterator[KeptPrediction]:
        """All predictions in the order of the scans."""
        of_job = self.job.id
        return self._in_order(lambda session, after: prediction_job_service.predictions(session, of_job, PAGE, after))

    def failures(self) -> Iterator[PredictionFailure]:
        """All scans that could not be predicted."""
        of_job = self.job.id
        return self._in_order(lambda session, after: prediction_job_service.failures(session, of_job, PAGE, after))

    def _in_order(self, page: Callable[[Session, int], Sequence[Found]]) -> Iterator[Found]:
        """All rows, a page in memory at a time, with no transaction open between them."""
        after = -1
        while True:
            with self.database.reading() as session:
                rows = page(session, after)
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1].position  # type: ignore[assignment]

    def _entry(self, name: str, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
        made = (self.job.finished_at or self.job.created_at).astimezone(UTC)
        entry = zipfile.ZipInfo(name, made.timetuple()[:6])
        entry.compress_type = method
        entry.external_attr = 0o644 << 16
        return entry
