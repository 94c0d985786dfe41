"""Predictions that are kept. Files come first and the row after them, so that a row always has its files."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select, tuple_
from sqlalchemy.orm import Session

from octa_backend.errors import IllegalJobState, PredictionNotFound
from octa_backend.service import paging
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.service.predict_service import Answer
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, disk_full_explained, folder_written_aside, remove
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionJob
from octa_backend.storage.tables import JobState

ANSWER_FILE = "answer.json"
PICTURE_ENDING = "_png"
"""Fields of an answer with this ending hold a picture in base64; `mask_png` is kept as `mask.png`."""

COLUMNS = ("model_id", "file", "width", "height", "threshold", "foreground_fraction", "confidence", "measurements")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan's answer, and the SHA-256 of the scan's file."""

    answer: Answer
    sha256: str

    @property
    def prediction_id(self) -> str:
        """The id that the answer names."""
        return str(self.answer.body["prediction_id"])


def keep(database: Database, files: Files, scans: Sequence[Scanned], most: int) -> None:
    """Keep the predictions of one request, all or none; the oldest ones beyond `most` leave.

    Raises:
        StorageFull: the disk is full; nothing was kept.
    """
    try:
        for scan in scans:
            write(files, scan)
        with database.writing() as session:
            session.add_all([row_of(scan) for scan in scans])
            session.flush()
            surplus = _surplus(session, most)
            _forget(session, surplus)
    except BaseException:
        discard(files, [scan.prediction_id for scan in scans])
        raise
    discard(files, surplus)


def write(files: Files, scan: Scanned) -> None:
    """Write a prediction's folder aside and rename it.

    Raises:
        StorageFull: the disk is full; nothing of it stays.
    """
    plain, pictures = _parted(scan.answer)
    files.require_free(sum(map(len, pictures.values())))
    with disk_full_explained(files), folder_written_aside(files.prediction(scan.prediction_id)) as aside:
        for name, content in pictures.items():
            (aside / name).write_bytes(content)
        (aside / ANSWER_FILE).write_text(json.dumps(plain, ensure_ascii=False), "utf-8")


def row_of(scan: Scanned, prediction_job_id: str | None = None, position: int | None = None) -> KeptPrediction:
    """The row of a prediction whose files are written."""
    body = scan.answer.body
    return KeptPrediction(
        id=scan.prediction_id,
        sha256=scan.sha256,
        prediction_job_id=prediction_job_id,
        position=position,
        warnings=list(body.get("warnings") or ()),
        **{name: body[name] for name in COLUMNS},
    )


def _parted(answer: Answer) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The answer without its pictures, and all pictures as file name -> PNG."""
    plain, pictures = dict(answer.body), dict(answer.kept_pictures)
    for name, value in answer.body.items():
        if name.endswith(PICTURE_ENDING) and value is not None:
            pictures[_picture_file(name)] = base64.b64decode(value)
            plain[name] = None
    return plain, pictures


def _picture_file(field: str) -> str:
    return f"{field.removesuffix(PICTURE_ENDING)}.png"


# --- looking ---------------------------------------------------------------------------------------------------------


def get(session: Session, prediction_id: str) -> KeptPrediction:
    """The prediction with this id.

    Raises:
        PredictionNotFound: none that was kept has it.
    """
    row = session.get(KeptPrediction, prediction_id)
    if row is None:
        raise _not_found(prediction_id)
    return row


def _not_found(prediction_id: str) -> PredictionNotFound:
    return PredictionNotFound(f"no prediction that was kept has the id {prediction_id!r}")


def list_predictions(
    session: Session, model_id: str | None, prediction_job_id: str | None, limit: int, cursor: str | None
) -> Page[KeptPrediction]:
    """Predictions, newest first, of one model or job or of all."""
    table = KeptPrediction
    query = select(table).order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    if model_id is not None:
        query = query.where(table.model_id == model_id)
    if prediction_job_id is not None:
        query = query.where(table.prediction_job_id == prediction_job_id)
    if cursor is not None:
        created, prediction_id = read_cursor(cursor, paging.moment, paging.text)
        query = query.where(tuple_(table.created_at, table.id) < (created, prediction_id))
    rows = session.scalars(query).all()
    return Page.cut(rows, limit, lambda row: cursor_of(row.created_at.isoformat(), row.id))


def read_answer(files: Files, prediction_id: str, with_pictures: bool) -> dict[str, Any]:
    """The answer as it was given; its pictures are null unless they are asked for.

    Raises:
        PredictionNotFound: it was deleted meanwhile.
    """
    folder = files.prediction(prediction_id)
    try:
        body: dict[str, Any] = json.loads((folder / ANSWER_FILE).read_text("utf-8"))
        if with_pictures:
            for name in body:
                path = folder / _picture_file(name)
                if name.endswith(PICTURE_ENDING) and path.exists():
                    body[name] = base64.b64encode(path.read_bytes()).decode()
    except FileNotFoundError as error:
        raise _not_found(prediction_id) from error
    return body


def picture_names(files: Files, prediction_id: str) -> list[str]:
    """Which pictures were kept, without their ending."""
    return sorted(path.stem for path in files.prediction(prediction_id).glob("*.png"))


def picture_path(files: Files, prediction_id: str, name: str) -> Path:
    """Where a picture lies.

    Raises:
        PredictionNotFound: this prediction has no such picture.
    """
    path = files.prediction(prediction_id) / f"{name}.png"
    if not path.is_file():
        raise PredictionNotFound(f"prediction {prediction_id} has no picture {name}.png")
    return path


# --- deleting --------------------------------------------------------------------------------------------------------


def remove_prediction(session: Session, prediction_id: str) -> None:
    """Forget a prediction; its files are discarded after the transaction.

    Raises:
        PredictionNotFound: there is none with this id.
        IllegalJobState: its job is not over.
    """
    row = get(session, prediction_id)
    job = session.get(PredictionJob, row.prediction_job_id) if row.prediction_job_id else None
    if job is not None and not JobState(job.state).is_final:
        raise IllegalJobState(f"prediction job {job.id} is {job.state}; cancel it before you delete its predictions")
    session.delete(row)
    session.flush()


def remove_many(session: Session, model_id: str | None, before: datetime | None) -> list[str]:
    """Forget the predictions of a model, those made before a time, or those that are both; return their ids.

    Those of jobs that are not over stay.
    """
    over = [state for state in JobState if state.is_final]
    finished = select(PredictionJob.id).where(PredictionJob.state.in_(over))
    wanted: list[ColumnElement[bool]] = [
        or_(KeptPrediction.prediction_job_id.is_(None), KeptPrediction.prediction_job_id.in_(finished))
    ]
    if model_id is not None:
        wanted.append(KeptPrediction.model_id == model_id)
    if before is not None:
        wanted.append(KeptPrediction.created_at < before)
    ids = list(session.scalars(select(KeptPrediction.id).where(*wanted)))
    _forget(session, ids)
    return ids


def _surplus(session: Session, most: int) -> list[str]:
    """The oldest predictions beyond `most`; those of jobs go with their job."""
    alone = select(KeptPrediction.id).where(KeptPrediction.prediction_job_id.is_(None))
    newest_first = alone.order_by(KeptPrediction.created_at.desc(), KeptPrediction.id.desc())
    return list(session.scalars(newest_first.offset(most)))


def _forget(session: Session, ids: Sequence[str]) -> None:
    """Delete rows, a few hundred at a time: databases limit how many values one statement has."""
    for start in range(0, len(ids), 500):
        session.execute(delete(KeptPrediction).where(KeptPrediction.id.in_(ids[start : start + 500])))


def discard(files: Files, ids: Iterable[str]) -> None:
    """Remove the folders of predictions that have no row. One that the system holds on to goes at the next start."""
    for prediction_id in ids:
        try:
            remove(files.prediction(prediction_id))
        except OSError as error:
            _log.warning("prediction %s: its folder could not be removed yet: %s", prediction_id, error)


def sweep(database: Database, files: Files, most: int) -> None:
    """At start: remove what has no row any more or not yet, and what is more than is kept now."""
    with database.writing() as session:
        _forget(session, _surplus(session, most))
    with database.reading() as session:
        known: Mapping[Path, set[str]] = {
            files.predictions: set(session.scalars(select(KeptPrediction.id))),
            files.prediction_jobs: set(session.scalars(select(PredictionJob.id))),
        }
    for folder, ids in known.items():
        for path in folder.iterdir():
            if path.name not in ids:
                remove(path)
