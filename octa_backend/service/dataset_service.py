"""Datasets: taking in an upload, listing, deleting. Session in, rows out; nothing commits here but `take_in`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from octa_backend.data.intake import prepare
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.store import MANIFEST_FILE, Manifest
from octa_backend.diagnosis.findings import Finding
from octa_backend.errors import DatasetInUse, DatasetNotFound
from octa_backend.service import finding_store, paging
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import (
    Files,
    discard,
    disk_full_explained,
    move,
    part_name,
    remove,
    set_aside,
    sync_folder_files,
)
from octa_backend.storage.tables import Dataset, Job
from octa_backend.storage.uploads import Upload

SOURCE_FILE = "source.zip"
REPAIRS_FILE = "repairs.json"
ID_LENGTH = 20  # hexadecimal digits of the SHA-256: 80 bits


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a repaired dataset comes from.

    Attributes:
        file_id: the dataset it was made from.
        steps: every change, as JSON objects with `remedy` and `scan`.
        summary: the changes by remedy, as the API shows them.
    """

    file_id: str
    steps: Sequence[dict[str, Any]]
    summary: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An upload that was checked and may become a dataset: its findings, and what becomes its row.

    Attributes:
        there: the dataset of the same content, if there is one already.
        manifest: what was prepared; None where the dataset is there already.
    """

    upload: Upload
    findings: tuple[Finding, ...]
    aside: Path
    manifest: Manifest | None
    there: Dataset | None

    @property
    def spatial_dims(self) -> int:
        """2 where it holds pictures, 3 where it holds volumes."""
        holder = self.manifest or self.there
        assert holder is not None
        return holder.spatial_dims


def limits(settings: Settings) -> IntakeLimits:
    """What a zip may hold."""
    return IntakeLimits(
        max_files=settings.max_files,
        max_unpacked_bytes=settings.max_unpacked_mib * 2**20,
        max_ratio=settings.max_compression_ratio,
        max_scan_pixels=settings.max_scan_pixels,
        max_scan_voxels=settings.max_scan_voxels,
    )


def id_of(upload: Upload) -> str:
    """The `file_id` that an upload's content gets."""
    return upload.sha256[:ID_LENGTH]


def take_in(database: Database, settings: Settings, upload: Upload) -> Dataset:
    """Check an upload and make it a dataset; the same content again gives the dataset that is there.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: it does not fit; nothing was kept.
        StorageFull: the disk is full; nothing was kept.
    """
    with checked(database, settings, upload) as candidate:
        return keep(database, settings, candidate)


@contextmanager
def checked(database: Database, settings: Settings, upload: Upload) -> Iterator[Candidate]:
    """Check an upload; unless the block keeps it, nothing of it stays.

    The checks take a while, so they run outside any transaction.

    Raises:
        as `take_in`.
    """
    with database.reading() as session:
        there = session.get(Dataset, id_of(upload))
    files = Files.of(settings)
    aside = part_name(files.dataset(id_of(upload)))
    if there is not None:
        yield Candidate(upload, findings_of(there), aside, None, there)
        return
    try:
        with disk_full_explained(files):
            prepared = prepare(upload.path, aside, limits(settings))
        yield Candidate(upload, prepared.findings, aside, prepared.manifest, None)
    finally:
        remove(aside)


def as_candidate(settings: Settings, dataset: Dataset) -> Candidate:
    """A dataset that is there, as if it had just been uploaded."""
    path = Files.of(settings).dataset(dataset.id) / SOURCE_FILE
    upload = Upload(path, dataset.sha256, dataset.size_bytes, dataset.name)
    return Candidate(upload, findings_of(dataset), path, None, dataset)


def manifest_of(settings: Settings, candidate: Candidate) -> Manifest:
    """What a checked upload, or the dataset that it is already, holds."""
    if candidate.manifest is not None:
        return candidate.manifest
    assert candidate.there is not None
    folder = Files.of(settings).dataset(candidate.there.id)
    return Manifest.from_json((folder / MANIFEST_FILE).read_text("utf-8"))


def keep(database: Database, settings: Settings, candidate: Candidate, origin: Origin | None = None) -> Dataset:
    """Make a checked upload a dataset.

    Raises:
        StorageFull: the disk is full; nothing was kept.
    """
    if candidate.there is not None:
        return candidate.there
    files = Files.of(settings)
    with disk_full_explained(files):
        move(candidate.upload.path, candidate.aside / SOURCE_FILE)
        if origin is not None:
            text = json.dumps(list(origin.steps), ensure_ascii=False)
            (candidate.aside / REPAIRS_FILE).write_text(text, "utf-8")
        sync_folder_files(candidate.aside)
    with database.writing() as session:
        return _keep(session, files, candidate, origin)


def _keep(session: Session, files: Files, candidate: Candidate, origin: Origin | None) -> Dataset:
    """Name the dataset's row, then its folder; under the write lock, so that two equal uploads become one."""
    upload, manifest = candidate.upload, candidate.manifest
    assert manifest is not None
    there = session.get(Dataset, id_of(upload))
    if there is not None:
        return there
    splits = {name: sum(scan.split == name for scan in manifest.scans) for name in ("train", "val", "test")}
    dataset = Dataset(
        id=id_of(upload),
        sha256=upload.sha256,
        name=upload.name,
        scans=len(manifest.scans),
        channels=manifest.channels,
        classes=manifest.classes,
        spatial_dims=manifest.spatial_dims,
        foreground_fraction=manifest.foreground_fraction,
        splits={name: count for name, count in splits.items() if count},
        findings=[finding_store.to_row(finding) for finding in candidate.findings],
        parent_file_id=origin.file_id if origin else None,
        repairs=list(origin.summary) if origin else [],
        size_bytes=upload.size_bytes,
    )
    session.add(dataset)
    session.flush()
    folder = files.dataset(dataset.id)
    remove(folder)  # left by a server that was killed between the folder and the row
    move(candidate.aside, folder)
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


def findings_of(dataset: Dataset) -> tuple[Finding, ...]:
    """What the checks said about a dataset."""
    return tuple(finding_store.from_row(row) for row in dataset.findings)


def list_datasets(session: Session, limit: int, cursor: str | None) -> Page[Dataset]:
    """Datasets, newest first."""
    query = select(Dataset).order_by(Dataset.created_at.desc(), Dataset.id.desc()).limit(limit + 1)
    if cursor is not None:
        created, file_id = read_cursor(cursor, paging.moment, paging.text)
        query = query.where(tuple_(Dataset.created_at, Dataset.id) < (created, file_id))
    return Page.cut(session.scalars(query).all(), limit, lambda row: cursor_of(row.created_at.isoformat(), row.id))


def list_repairs(session: Session, files: Files, file_id: str, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
    """What was changed to make this dataset, scan by scan; empty for one that was uploaded as it is."""
    get(session, file_id)
    path = files.dataset(file_id) / REPAIRS_FILE
    steps: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    after = read_cursor(cursor, paging.whole)[0] if cursor else 0
    numbered = list(enumerate(steps, 1))[after : after + limit + 1]
    page = Page.cut(numbered, limit, lambda row: cursor_of(row[0]))
    return Page([step for _, step in page.rows], page.next_cursor)


def remove_dataset(session: Session, file_id: str) -> None:
    """Forget a dataset; its files are discarded after the transaction.

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


def discard_files(database: Database, files: Files, file_id: str) -> None:
    """Remove the files of a dataset that was forgotten."""
    with database.writing() as session:  # under the write lock: the same zip may come in again meanwhile
        if session.get(Dataset, file_id) is not None:
            return
        aside = set_aside(files.dataset(file_id))
    discard(aside)
