"""How far predicted masks agree with known ones, as a table for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octa_backend.service.evaluated_answer import METRICS

COLUMNS = ("scan", "mask", "class", *METRICS)
MEAN = "mean"


class EvaluationTable:
    """A row for each scan's mean and for each of its classes; empty where neither mask holds the class."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def add(self, scan: str, evaluation: Mapping[str, Any]) -> None:
        """The evaluation of one scan, see `evaluated_answer.told`."""
        for name, scores in ((MEAN, evaluation["mean"]), *((one["name"], one) for one in evaluation["classes"])):
            self._rows.append((scan, evaluation["mask"], name, *(scores[metric] for metric in METRICS)))

    def write(self, path: Path) -> None:
        """Write it as UTF-8 with a mark at its beginning, by which spreadsheets know the encoding."""
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *self._rows])
