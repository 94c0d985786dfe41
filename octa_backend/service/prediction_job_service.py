"""Prediction jobs as the user sees them: start, look, cancel, delete. Session in, rows out; only `start` commits."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from octa_backend.data.archive import PREDICTED_WANTED, Archive
from octa_backend.data.intake import opened_archive
from octa_backend.data.layouts import IMAGE_ENDINGS
from octa_backend.data.scan_files import distinct, is_zip
from octa_backend.data.volume_case import Channels
from octa_backend.errors import IllegalJobState, InvalidRequest, PredictionJobNotFound
from octa_backend.service import paging
from octa_backend.service.dataset_service import limits
from octa_backend.service.job_scans import count_scans
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.service.predict_service import PredictOptions
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import (
    Files,
    disk_full_explained,
    folder_written_aside,
    move,
    remove,
    sync_folder_files,
)
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionFailure, PredictionJob
from octa_backend.storage.tables import JobState, new_id
from octa_backend.storage.uploads import Upload

SOURCE_FILE = "source.zip"
OPTIONS = TypeAdapter(PredictOptions)
"""The options of a request as JSON and back, whatever fields they have."""


def opened_scans(folder: Path, settings: Settings) -> Archive:
    """The scans of the job that has this folder, checked as strictly as a dataset.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip does not fit.
    """
    return opened_archive(folder / SOURCE_FILE, limits(settings), PREDICTED_WANTED)


def start(
    database: Database,
    settings: Settings,
    model_ids: Sequence[str],
    uploads: Sequence[Upload],
    options: PredictOptions,
    channels: Channels | None = None,
) -> PredictionJob:
    """Keep a zip of scans, or scans that came one by one, and queue them for the models, which answer together.

    Args:
        database, settings: where, and what is allowed.
        model_ids: at least one.
        uploads: scans or volumes, or one zip of them.
        options: how.
        channels: of models of volumes; None of models of pictures.

    Raises:
        InvalidRequest: a zip came together with other files, or a scan has no name of an image.
        ScanDoesNotFit: the volumes are no cases of these models, see `find_cases`.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip does not fit; nothing was kept.
        StorageFull: the disk is full; nothing was kept.
    """
    files, job_id = Files.of(settings), new_id()
    folder = files.prediction_job(job_id)
    with disk_full_explained(files), folder_written_aside(folder) as aside:
        name = _keep_source(files, uploads, aside / SOURCE_FILE, are_volumes=channels is not None)
        with opened_scans(aside, settings) as archive:
            total, ignored = count_scans(archive, channels, name)
        sync_folder_files(aside)
    stored = OPTIONS.dump_python(options, mode="json")
    job = PredictionJob(
        id=job_id, model_id=",".join(model_ids), name=name, options=stored, total=total, ignored=ignored
    )
    job.spatial_dims = 2 if channels is None else 3
    try:
        with database.writing() as session:
            session.add(job)
    except BaseException:
        remove(folder)
        raise
    return job


def _keep_source(files: Files, uploads: Sequence[Upload], target: Path, *, are_volumes: bool) -> str:
    """Move the one zip to `target`, or pack the scans into one; return what the job is called."""
    zips = [upload for upload in uploads if is_zip(upload.path, upload.name)]
    if len(uploads) == 1 and zips:
        move(uploads[0].path, target)
        return uploads[0].name
    if zips:
        raise InvalidRequest(f"{zips[0].name} is a zip among {len(uploads)} files; send one zip alone, or scans alone")
    files.require_free(sum(upload.size_bytes for upload in uploads))
    taken: set[str] = set()
    with zipfile.ZipFile(target, "w") as archive:  # images are packed already
        for upload in uploads:
            name = upload.name if are_volumes else distinct(_scan_name(upload), taken)
            taken.add(name.casefold())
            archive.write(upload.path, name)
    return f"{len(uploads)} files"


def _scan_name(upload: Upload) -> str:
    name = upload.name.replace("\\", "/").rsplit("/", 1)[-1]
    if not name.lower().endswith(IMAGE_ENDINGS) or name.startswith("."):
        raise InvalidRequest(f"{upload.name!r} is no name of an image; end it in one of {', '.join(IMAGE_ENDINGS)}")
    return name


# --- looking ---------------------------------------------------------------------------------------------------------


def get(session: Session, prediction_job_id: str) -> PredictionJob:
    """The prediction job with this id.

    Raises:
        PredictionJobNotFound: there is none.
    """
    job = session.get(PredictionJob, prediction_job_id)
    if job is None:
        raise PredictionJobNotFound(f"no prediction job has the id {prediction_job_id!r}")
    return job


def list_jobs(session: Session, state: JobState | None, limit: int, cursor: str | None) -> Page[PredictionJob]:
    """Prediction jobs, newest first, of one state or of all."""
    query = select(PredictionJob).order_by(PredictionJob.created_at.desc(), PredictionJob.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(PredictionJob.state == state)
    if cursor is not None:
        created, job_id = read_cursor(cursor, paging.moment, paging.text)
        query = query.where(tuple_(PredictionJob.created_at, PredictionJob.id) < (created, job_id))
    rows = session.scalars(query).all()
    return Page.cut(rows, limit, lambda job: cursor_of(job.created_at.isoformat(), job.id))


def failures(session: Session, prediction_job_id: str, limit: int, after: int = -1) -> Sequence[PredictionFailure]:
    """The scans that could not be predicted, from the one after position `after` on."""
    table = PredictionFailure
    query = select(table).where(table.prediction_job_id == prediction_job_id, table.position > after)
    return session.scalars(query.order_by(table.position).limit(limit)).all()


def predictions(session: Session, prediction_job_id: str, limit: int, after: int = -1) -> Sequence[KeptPrediction]:
    """The predictions of a job, in the order of its scans, from the one after position `after` on."""
    table = KeptPrediction
    query = select(table).where(table.prediction_job_id == prediction_job_id, table.position > after)
    return session.scalars(query.order_by(table.position).limit(limit)).all()


def eta_seconds(job: PredictionJob) -> float | None:
    """Seconds until the last scan, from the mean of those before; None while there is none, or the job is over."""
    if JobState(job.state).is_final or not job.processed:
        return None
    return round(job.busy_seconds / job.processed * (job.total - job.processed), 1)


# --- changing --------------------------------------------------------------------------------------------------------


def request_cancel(session: Session, prediction_job_id: str) -> PredictionJob:
    """Cancel a waiting job at once; ask a running one to stop after its present scan. What is predicted stays.

    Raises:
        IllegalJobState: the job is already over.
    """
    job = get(session, prediction_job_id)
    if JobState(job.state).is_final:
        raise IllegalJobState(f"prediction job {job.id} is {job.state}; only a queued or running one can be cancelled")
    job.cancel_requested = True
    if job.state == JobState.QUEUED:
        job.move_to(JobState.CANCELLED)
    session.flush()
    return job


def remove_job(session: Session, prediction_job_id: str) -> list[str]:
    """Forget a job with its predictions, and return their ids; files are removed after the transaction.

    Raises:
        IllegalJobState: the job is not over.
    """
    job = get(session, prediction_job_id)
    if not JobState(job.state).is_final:
        raise IllegalJobState(f"prediction job {job.id} is {job.state}; cancel it before you delete it")
    query = select(KeptPrediction.id).where(KeptPrediction.prediction_job_id == job.id)
    ids = list(session.scalars(query))
    session.delete(job)  # the database deletes what belongs to it
    session.flush()
    return ids
