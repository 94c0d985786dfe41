"""Datasets: taking in an upload, listing, deleting. Session in, rows out; nothing commits here."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from octa_backend.data.intake import IntakeLimits, Prepared, prepare
from octa_backend.errors import DatasetInUse, DatasetNotFound
from octa_backend.service import finding_store, paging
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, disk_full_explained, part_name, remove
from octa_backend.storage.tables import Dataset, Job
from octa_backend.storage.uploads import Upload

SOURCE_FILE = "source.zip"
ID_LENGTH = 20  # hexadecimal digits of the SHA-256: 80 bits


def limits(settings: Settings) -> IntakeLimits:
    """What a zip may hold."""
    return IntakeLimits(
        max_files=settings.max_files,
        max_unpacked_bytes=settings.max_unpacked_mib * 2**20,
        max_ratio=settings.max_compression_ratio,
        max_scan_pixels=settings.max_scan_pixels,
    )


def take_in(database: Database, settings: Settings, upload: Upload) -> Dataset:
    """Check an upload and make it a dataset; the same content again gives the dataset that is there.

    The checks take a while, so they run outside any transaction.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: it does not fit; nothing was kept.
        StorageFull: the disk is full; nothing was kept.
    """
    file_id = upload.sha256[:ID_LENGTH]
    with database.reading() as session:
        there = session.get(Dataset, file_id)
    if there is not None:
        return there
    aside = part_name(Files.of(settings).dataset(file_id))
    try:
        with disk_full_explained(Files.of(settings)):
            prepared = prepare(upload.path, aside, limits(settings))
        upload.path.replace(aside / SOURCE_FILE)
        with database.writing() as session:
            return _keep(session, Files.of(settings), upload, aside, prepared)
    finally:
        remove(aside)


def _keep(session: Session, files: Files, upload: Upload, aside: Path, prepared: Prepared) -> Dataset:
    """Name the dataset's row, then its folder; under the write lock, so that two equal uploads become one."""
    file_id = upload.sha256[:ID_LENGTH]
    there = session.get(Dataset, file_id)
    if there is not None:
        return there
    manifest = prepared.manifest
    splits = {name: sum(scan.split == name for scan in manifest.scans) for name in ("train", "val", "test")}
    dataset = Dataset(
        id=file_id,
        sha256=upload.sha256,
        name=upload.name,
        scans=len(manifest.scans),
        channels=manifest.channels,
        classes=manifest.classes,
        spatial_dims=manifest.spatial_dims,
        foreground_fraction=manifest.foreground_fraction,
        splits={name: count for name, count in splits.items() if count},
        findings=[finding_store.to_row(finding) for finding in prepared.findings],
        size_bytes=upload.size_bytes,
    )
    session.add(dataset)
    session.flush()
    folder = files.dataset(file_id)
    remove(folder)  # left by a server that was killed between the folder and the row
    aside.replace(folder)
    return dataset


def get(session: Session, file_id: str) -> Dataset:
    """The dataset with this id.

    Raises:
        DatasetNotFound: there is none.
    """
    dataset = session.get(Dataset, file_id)
    if dataset is None:
        raise DatasetNotFound(f"no dataset has the id {file_id!r}")
    return dataset


def list_datasets(session: Session, limit: int, cursor: str | None) -> Page[Dataset]:
    """Datasets, newest first."""
    query = select(Dataset).order_by(Dataset.created_at.desc(), Dataset.id.desc()).limit(limit + 1)
    if cursor is not None:
        created, file_id = read_cursor(cursor, paging.moment, paging.text)
        query = query.where(tuple_(Dataset.created_at, Dataset.id) < (created, file_id))
    return Page.cut(session.scalars(query).all(), limit, lambda row: cursor_of(row.created_at.isoformat(), row.id))


def remove_dataset(session: Session, files: Files, file_id: str) -> None:
    """Forget a dataset.

    Raises:
        DatasetNotFound: there is none with this id.
        DatasetInUse: a job was started on it, so the job's record needs it.
    """
    dataset = get(session, file_id)
    jobs = session.scalar(select(func.count()).select_from(Job).where(Job.file_id == file_id))
    if jobs:
        raise DatasetInUse(f"{jobs} jobs use dataset {file_id}; delete them first")
    session.delete(dataset)
    session.flush()
    remove(files.dataset(file_id))
