"""Predictions that are kept. Files come first and the row after them, so that a row always has its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select, tuple_
from sqlalchemy.orm import Session

from octa_backend.errors import IllegalJobState, PredictionNotFound
from octa_backend.service import answer_files, paging
from octa_backend.service.answer_files import PICTURE, VOLUME
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.service.predict_service import Answer
from octa_backend.storage import files as storage
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, disk_full_explained, folder_written_aside
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionJob
from octa_backend.storage.tables import JobState

ANSWER_FILE = "answer.json"
COLUMNS = ("model_id", "threshold", "foreground_fraction", "confidence", "measurements")


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan's answer, and the SHA-256 of the scan's file; of several files, of their SHA-256s one after the other."""

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
    plain, inside = answer_files.parted(scan.answer.body)
    kept = {**scan.answer.kept_pictures, **inside}
    files.require_free(sum(map(len, kept.values())))
    with disk_full_explained(files), folder_written_aside(files.prediction(scan.prediction_id)) as aside:
        for name, content in kept.items():
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
        **_file_and_sides(body),
    )


def _file_and_sides(body: Mapping[str, Any]) -> dict[str, Any]:
    """Which file it was and how large, of a picture or of a volume, which has a shape."""
    if "shape" not in body:
        return {name: body[name] for name in ("file", "width", "height")}
    width, height, depth = body["shape"]
    return {"file": body["files"][0], "width": width, "height": height, "depth": depth}


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
    """The answer as it was given; its pictures and volumes are null unless they are asked for.

    Raises:
        PredictionNotFound: it was deleted meanwhile.
    """
    folder = files.prediction(prediction_id)
    try:
        body: dict[str, Any] = json.loads((folder / ANSWER_FILE).read_text("utf-8"))
        if with_pictures:
            answer_files.put_back(body, folder)
    except FileNotFoundError as error:
        raise _not_found(prediction_id) from error
    return body


def picture_names(files: Files, prediction_id: str) -> list[str]:
    """Which pictures were kept, without their ending."""
    return _names(files, prediction_id, PICTURE)


def volume_names(files: Files, prediction_id: str) -> list[str]:
    """Which volumes were kept, without their ending."""
    return _names(files, prediction_id, VOLUME)


def _names(files: Files, prediction_id: str, ending: str) -> list[str]:
    return sorted(path.name.removesuffix(ending) for path in files.prediction(prediction_id).glob(f"*{ending}"))


def picture_path(files: Files, prediction_id: str, name: str) -> Path:
    """Where a picture lies.

    Raises:
        PredictionNotFound: this prediction has no such picture.
    """
    return _path(files, prediction_id, f"{name}{PICTURE}", "picture")


def volume_path(files: Files, prediction_id: str, name: str) -> Path:
    """Where a volume lies.

    Raises:
        PredictionNotFound: this prediction has no such volume.
    """
    return _path(files, prediction_id, f"{name}{VOLUME}", "volume")


def _path(files: Files, prediction_id: str, name: str, kind: str) -> Path:
    path = files.prediction(prediction_id) / name
    if not path.is_file():
        raise PredictionNotFound(f"prediction {prediction_id} has no {kind} {name}")
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
        storage.discard(files.prediction(prediction_id))


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
                storage.discard(path)
