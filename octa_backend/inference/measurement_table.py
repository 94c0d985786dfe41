"""Measurements of several scans as tables for a spreadsheet, written row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from octa_backend.diagnosis.text import Language
from octa_backend.inference.measurement import Measurement, shown

COLUMNS = ("scan", "measurement", "value", "unit", "reason")
"""Of `measurements.csv`: a row for each scan and measurement; the value is empty where the reason says why."""

SCAN_COLUMNS = ("scan", "width", "height", "threshold", "foreground_fraction", "confidence_mean", "uncertain_fraction")
"""Of `scans.csv`, before a column for each measurement: a row for each scan."""

ENCODING = "utf-8-sig"
"""UTF-8 with a mark at its beginning, by which spreadsheets know the encoding."""

Row = tuple[Any, ...]


def shown_measurements(values: Mapping[str, Measurement], language: Language) -> dict[str, dict[str, Any]]:
    """Measurements as answers show them."""
    return {name: shown(measurement, language) for name, measurement in values.items()}


def measurement_rows(scan: str, measurements: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """The rows of one scan for `COLUMNS`."""
    for name, told in measurements.items():
        yield scan, name, told["value"], told["unit"], told["reason"]


def scan_columns(measurements: Mapping[str, Mapping[str, Any]]) -> Row:
    """The heads of `scans.csv`, each measurement with its unit, which all scans of one run share."""
    units = (f"{name} [{told['unit']}]" for name, told in measurements.items())
    return (*SCAN_COLUMNS, *units)


def scan_row(facts: Row, measurements: Mapping[str, Mapping[str, Any]]) -> Row:
    """The row of one scan: its facts in the order of `SCAN_COLUMNS`, and the values of its measurements."""
    return (*facts, *(told["value"] for told in measurements.values()))


def csv_line(row: Row) -> str:
    """One row as a line of CSV."""
    lines = _Last()
    csv.writer(lines).writerow([_harmless(cell) for cell in row])
    return lines.text


class _Last:
    """A file that holds what was written last."""

    text = ""

    def write(self, text: str) -> None:
        """Keep a text in place of the last one."""
        self.text = text


def _harmless(cell: Any) -> Any:
    """A name that a spreadsheet would take for a formula, as text."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t") else cell


@contextmanager
def table_file(path: Path, columns: Row) -> Iterator[IO[str]]:
    """A table that is open for lines, with its heads."""
    with path.open("w", encoding=ENCODING, newline="") as file:
        file.write(csv_line(columns))
        yield file


def remove_table(path: Path, columns: Row) -> None:
    """Remove a table of an earlier run; another file of this name stays, and so does one of other columns."""
    if path.is_file() and path.read_bytes().startswith(csv_line(columns).encode(ENCODING)):
        path.unlink()
