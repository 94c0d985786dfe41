"""What a server holds and does at the moment, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from octa_backend.service.predict_service import PredictService
from octa_backend.storage.files import Files
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionJob
from octa_backend.storage.tables import Base, Dataset, Job, JobState, Model


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counted at one moment.

    Attributes:
        jobs: how many there are in each state, 0 of states in which none is.
        prediction_jobs: likewise.
        datasets: kept.
        models: on the shelf.
        predictions: in the history.
        loaded_models: in memory.
        loaded_models_bytes: what these take there, about.
        free_bytes: on the disk of the data folder.
    """

    jobs: Mapping[str, int]
    prediction_jobs: Mapping[str, int]
    datasets: int
    models: int
    predictions: int
    loaded_models: int
    loaded_models_bytes: int
    free_bytes: int


def gather(session: Session, files: Files, predictions: PredictService) -> Metrics:
    """Count rows; nothing but the database and the size of the disk is asked."""
    sizes = predictions.loaded_mib()
    return Metrics(
        jobs=_by_state(session, Job),
        prediction_jobs=_by_state(session, PredictionJob),
        datasets=_count(session, Dataset),
        models=_count(session, Model),
        predictions=_count(session, KeptPrediction),
        loaded_models=len(sizes),
        loaded_models_bytes=round(sum(sizes) * 2**20),
        free_bytes=files.free_bytes(),
    )


def _count(session: Session, table: type[Base]) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def _by_state(session: Session, table: type[Job] | type[PredictionJob]) -> dict[str, int]:
    rows = session.execute(select(table.state, func.count()).group_by(table.state))
    found = {row[0]: row[1] for row in rows}
    return {state.value: found.get(state, 0) for state in JobState}
