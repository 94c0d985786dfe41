"""Comparisons of models in the background: asked for, looked at, computed one after the other, kept in the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from octa_backend.errors import ComparisonNotFound, InvalidRequest, NoTableYet, OctaError
from octa_backend.inference.model_folder import member_folders, read_card
from octa_backend.service import dataset_service, model_service
from octa_backend.service.model_fit import other_scans
from octa_backend.service.models_in_use import ModelsInUse
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Comparison, ComparisonState, Dataset, Model, now

MOST_MODELS = 20
TOLD_EVERY_SECONDS = 0.5
"""How often the progress is written at most."""

BROKEN_OFF = "the server ended while the models were compared; ask for the comparison again"

_log = logging.getLogger(__name__)


class _Ended(Exception):
    """The server ends."""


class Comparisons:
    """Computes comparisons, one at a time, in a thread of its own.

    Args:
        settings, files, database: of the server.
        in_use: is told which models are needed.
    """

    def __init__(self, settings: Settings, files: Files, database: Database, in_use: ModelsInUse) -> None:
        self._settings, self._files, self._database, self._in_use = settings, files, database, in_use
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="octa-compare")
        self._closing = False

    def open(self) -> None:
        """Mark as failed what an earlier server left unfinished."""
        with self._database.writing() as session:
            running = update(Comparison).where(Comparison.state == ComparisonState.RUNNING)
            session.execute(running.values(state=ComparisonState.FAILED, error=BROKEN_OFF, finished_at=now()))

    def start(self, model_ids: Sequence[str], file_id: str, split: str) -> Comparison:
        """Begin to compare.

        Raises:
            InvalidRequest: a model is named twice, is of pictures where the dataset holds volumes or the
                reverse, or has other classes.
            ModelNotFound, DatasetNotFound: there is none with such an id.
        """
        with self._database.writing() as session:
            dataset = dataset_service.get(session, file_id)
            models = [model_service.get(session, model_id) for model_id in model_ids]
            _require_fit(models, dataset)
            comparison = Comparison(model_ids=list(model_ids), file_id=file_id, split=split)
            session.add(comparison)
            session.flush()
        held = ExitStack()
        held.enter_context(self._in_use.using(model_ids, f"comparison {comparison.id}"))
        self._thread.submit(self._run, comparison, dataset, held)
        return comparison

    def close(self) -> None:
        """Stop at the next scan; what is not done is marked as failed, at the latest by the next server."""
        self._closing = True
        self._thread.shutdown()
        try:
            self.open()
        except SQLAlchemyError as error:
            _log.warning("comparisons could not be marked as broken off: %s", error)

    def _run(self, comparison: Comparison, dataset: Dataset, held: ExitStack) -> None:
        with held:
            try:
                end = {"state": ComparisonState.SUCCEEDED, "table": self._table(comparison, dataset)}
            except _Ended:
                end = {"state": ComparisonState.FAILED, "error": BROKEN_OFF}
            except OctaError as error:
                end = {"state": ComparisonState.FAILED, "error": error.message}
            except FileNotFoundError as error:
                gone = f"{Path(str(error.filename)).name} is not there any more; was its dataset deleted meanwhile?"
                end = {"state": ComparisonState.FAILED, "error": gone}
            except Exception:  # noqa: BLE001 - the border of a background job, as the worker's
                _log.exception("comparison %s failed", comparison.id)
                end = {"state": ComparisonState.FAILED, "error": "the server made a mistake; its log says more"}
        self._note(comparison, **end, finished_at=now())

    def _table(self, comparison: Comparison, dataset: Dataset) -> dict[str, Any]:
        from octa_backend.data.store import DatasetStore  # noqa: PLC0415
        from octa_backend.service import comparison_run  # noqa: PLC0415 - imports torch
        from octa_backend.service.evaluation_data import EvaluatedZip  # noqa: PLC0415

        if self._closing:
            raise _Ended
        folders = [self._files.model(model_id) for model_id in comparison.model_ids]
        cards = [read_card(folder) for folder in folders]
        for folder, card in zip(folders, cards, strict=True):
            member_folders(folder, card)  # all of them are there, before hours are spent on the first
        data = EvaluatedZip(DatasetStore(self._files.dataset(dataset.id)), dataset.name, dataset.sha256)
        indices = comparison_run.scans_to_compare(data, cards, comparison.split)
        total = len(indices) * len(folders)
        self._note(comparison, total=total)
        progress = _Progress(lambda done: self._note(comparison, done=done), lambda: self._closing)
        table = comparison_run.compare(
            folders, cards, data, indices, comparison.split, self._settings.device, progress.count
        )
        self._note(comparison, done=total)
        return table.to_dict()

    def _note(self, comparison: Comparison, **columns: Any) -> None:
        with self._database.writing() as session:
            session.execute(update(Comparison).where(Comparison.id == comparison.id).values(**columns))


class _Progress:
    """Counts scans, and tells the count now and then."""

    def __init__(self, tell: Callable[[int], None], is_ended: Callable[[], bool]) -> None:
        self._tell, self._is_ended = tell, is_ended
        self._done, self._told = 0, time.monotonic()

    def count(self, _model: str, _scan: str) -> None:
        """One more scan is done.

        Raises:
            _Ended: the server ends.
        """
        if self._is_ended():
            raise _Ended
        self._done += 1
        if time.monotonic() - self._told >= TOLD_EVERY_SECONDS:
            self._tell(self._done)
            self._told = time.monotonic()


def _require_fit(models: Sequence[Model], dataset: Dataset) -> None:
    """Refuse at once what would fail later.

    Raises:
        InvalidRequest: a model is named twice, is of pictures where the dataset holds volumes or the reverse,
            of volumes of other channels, or has other classes.
    """
    ids = [model.id for model in models]
    if twice := {model_id for model_id in ids if ids.count(model_id) > 1}:
        raise InvalidRequest(f"{', '.join(sorted(twice))} is named twice; each model is computed once")
    for model in models:
        if differs := other_scans(model.card, dataset.spatial_dims, dataset.channels):
            raise InvalidRequest(f"model {model.id} {differs}")
        classes, ignored = model.card["classes"], model.card.get("ignore_index")
        if dataset.classes not in (classes + (ignored is not None), classes):
            raise InvalidRequest(
                f"model {model.id} has {classes} classes with background, but the masks of dataset {dataset.id} have "
                f"{dataset.classes}"
            )


def get(session: Session, comparison_id: str) -> Comparison:
    """The comparison with this id.

    Raises:
        ComparisonNotFound: there is none.
    """
    comparison = session.get(Comparison, comparison_id)
    if comparison is None:
        raise ComparisonNotFound(f"no comparison has the id {comparison_id!r}")
    return comparison


def table_of(session: Session, comparison_id: str) -> dict[str, Any]:
    """The table of a comparison that has succeeded.

    Raises:
        ComparisonNotFound: there is none with this id.
        NoTableYet: it is not done, or failed.
    """
    comparison = get(session, comparison_id)
    if comparison.table is None:
        why = f": {comparison.error}" if comparison.error else f", {comparison.done} of {comparison.total} scans done"
        raise NoTableYet(f"comparison {comparison_id} is {comparison.state}{why}")
    return comparison.table
