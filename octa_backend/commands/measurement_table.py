"""Measurements of several scans as a table for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from octa_backend.diagnosis.text import Language
from octa_backend.inference.measurement import Measurement, shown

COLUMNS = ("scan", "measurement", "value", "unit", "reason")


class MeasurementTable:
    """A row for each scan and measurement; the value is empty where the reason says why."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._rows: list[tuple[str, str, float | None, str, str | None]] = []

    def add(self, scan: str, values: Mapping[str, Measurement]) -> None:
        """The measurements of one scan."""
        for name, measurement in values.items():
            told = shown(measurement, self._language)
            self._rows.append((scan, name, told["value"], told["unit"], told["reason"]))

    def write(self, path: Path) -> None:
        """Write it as UTF-8 with a mark at its beginning, by which spreadsheets know the encoding."""
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *self._rows])
