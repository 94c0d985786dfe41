"""The epochs of a training: rows of the database, or without one a line of JSON each, beside its checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from octa_backend.storage.tables import EpochReport
from octa_backend.training.events import EpochFinished, Event

if TYPE_CHECKING:
    from octa_backend.training.run import Emit

HISTORY_FILE = "history.jsonl"


def recorded(emit: Emit, path: Path) -> Emit:
    """An `emit` that also notes every finished epoch in a file."""

    def note(event: Event) -> None:
        if isinstance(event, EpochFinished):
            with path.open("a", encoding="utf-8") as file:
                # The line break comes first: what a killed process left half-written spoils no other line.
                file.write("\n" + json.dumps(asdict(event)))
        emit(event)

    return note


def read_history(path: Path) -> list[dict[str, Any]]:
    """The noted epochs in order; empty where there is no file.

    An epoch that was told again after a restart counts once, and what followed it in an abandoned run is dropped.
    """
    history: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            epoch = json.loads(line)
        except json.JSONDecodeError:
            continue
        history = [*(earlier for earlier in history if earlier["epoch"] < epoch["epoch"]), epoch]
    return history


def stored_history(session: Session, job_id: str) -> list[dict[str, Any]]:
    """The epochs of a job in order, with the fields of `EpochFinished`."""
    query = select(EpochReport).where(EpochReport.job_id == job_id).order_by(EpochReport.epoch)
    names = [field.name for field in fields(EpochFinished)]
    return [{name: getattr(row, name) for name in names} for row in session.scalars(query)]
