"""What becomes of an upload that was looked at: a prepared dataset, or a refusal that names every fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octa_backend.data.examination import Examination
from octa_backend.data.file_findings import refusal
from octa_backend.data.store import Manifest
from octa_backend.diagnosis.findings import Finding
from octa_backend.errors import InvalidDataset

MIN_SCANS = 2

Progress = Callable[[int, int], None]
"""Told how many scans are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A dataset that was taken in: what it holds, and what the checks say about it."""

    manifest: Manifest
    findings: tuple[Finding, ...]


def refuse_no_dataset(examination: Examination, kept: int) -> None:
    """Refuse what no remedy makes a dataset of.

    Raises:
        InvalidDataset: so it is; its findings name every fault of every file.
    """
    if refused := refusal(examination.findings, enough=kept >= MIN_SCANS):
        raise InvalidDataset(refused, examination.findings)
