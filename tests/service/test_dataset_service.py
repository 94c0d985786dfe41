from __future__ import annotations

import errno
import os
import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from octa_backend.data.store import DatasetStore, StoreWriter
from octa_backend.errors import (
    DatasetInUse,
    DatasetNotFound,
    InvalidArchive,
    InvalidCursor,
    InvalidDataset,
    StorageFull,
)
from octa_backend.service import dataset_service, finding_store
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Dataset
from octa_backend.storage.uploads import UploadWriter
from tests.data.zips import dataset, encoded, grey, square
from tests.fakes import a_dataset, a_job, zip_bytes


def take_in(database, settings, content, name="scans.zip"):
    """Upload as a request does: written to uploads/, taken in, and what is left of it discarded."""
    with UploadWriter(Files.of(settings), name) as writer:
        writer.write(content)
        return dataset_service.take_in(database, settings, writer.close())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def count(database):
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Dataset))


def test_the_disk_keeps_the_files_before_they_are_a_dataset(database, settings, files, monkeypatch):
    kept = set()

    def sync(descriptor, really=os.fsync):
        assert all(name.startswith(".") for name in names(files.root / "datasets"))
        kept.add(os.fstat(descriptor).st_ino)
        really(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    found = take_in(database, settings, zip_bytes(dataset()))
    assert kept >= {path.stat().st_ino for path in files.dataset(found.id).iterdir()}


@pytest.fixture
def nothing_left(database, files):
    """Afterwards there is no dataset, and nothing of one."""
    yield
    assert names(files.root / "datasets") == names(files.uploads) == []
    assert count(database) == 0


def test_a_dataset_is_named_by_its_content_and_holds_zip_and_arrays(database, settings, files):
    content = zip_bytes(dataset())
    found = take_in(database, settings, content)
    assert (found.id, found.name, found.size_bytes) == (found.sha256[:20], "scans.zip", len(content))
    assert (found.scans, found.channels, found.classes, found.spatial_dims, found.splits) == (3, 1, 2, 2, {})
    assert found.foreground_fraction == pytest.approx(144 / 576)  # a square of 12 in 24×24
    folder = files.dataset(found.id)
    assert names(folder) == ["images.bin", "manifest.json", "masks.bin", "source.zip"]
    assert (folder / "source.zip").read_bytes() == content
    assert len(DatasetStore(folder)) == 3
    assert names(files.uploads) == []


def test_official_splits_are_counted(database, settings):
    folders = {"train": (1, 2), "val": (3,), "test": (4, 5)}
    parts = {f"{split}/images/{n}.png": encoded(grey(n)) for split, scans in folders.items() for n in scans}
    parts |= {f"{split}/masks/{n}.png": encoded(square()) for split, scans in folders.items() for n in scans}
    assert take_in(database, settings, zip_bytes(parts)).splits == {"train": 2, "val": 1, "test": 2}


def test_findings_are_kept_with_the_dataset(database, settings):
    found = take_in(database, settings, zip_bytes(dataset() | {"notes.txt": b"hello"}))
    assert [finding_store.from_row(row).code for row in found.findings] == ["few_scans", "files_ignored"]


def test_the_same_content_again_is_the_same_dataset_under_its_first_name(database, settings, files):
    content = zip_bytes(dataset())
    first, again = take_in(database, settings, content), take_in(database, settings, content, name="other.zip")
    assert (again.id, again.name) == (first.id, "scans.zip")
    assert count(database) == len(names(files.root / "datasets")) == 1


def test_equal_uploads_at_once_become_one_dataset_and_others_their_own(database, settings, files):
    contents = [zip_bytes(dataset() | {"notes.txt": str(n % 3).encode()}) for n in range(9)]
    other = Database(settings.effective_database_url)
    found, faults = [], []

    def upload(number: int) -> None:
        try:
            found.append(take_in((database, other)[number % 2], settings, contents[number]).id)
        except Exception as error:  # noqa: BLE001
            faults.append(error)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert faults == []
    assert len(found) == 9
    assert count(database) == len(set(found)) == 3
    assert names(files.root / "datasets") == sorted(set(found))
    assert names(files.uploads) == []


@pytest.mark.usefixtures("nothing_left")
def test_a_zip_that_is_none_leaves_nothing(database, settings):
    with pytest.raises(InvalidArchive):
        take_in(database, settings, b"not a zip")


@pytest.mark.usefixtures("nothing_left")
def test_a_zip_of_which_no_dataset_can_be_made_leaves_nothing(database, settings):
    with pytest.raises(InvalidDataset):
        take_in(database, settings, zip_bytes(dataset() | {f"masks/{n}.png": b"not a mask" for n in (1, 2)}))


@pytest.mark.usefixtures("nothing_left")
def test_a_disk_that_gets_full_while_scans_are_written_leaves_nothing(database, settings, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoreWriter, "add", full)
    with pytest.raises(StorageFull, match="nothing was kept"):
        take_in(database, settings, zip_bytes(dataset()))


@pytest.mark.usefixtures("nothing_left")
def test_an_upload_that_would_touch_the_reserve_leaves_nothing(database, settings, monkeypatch):
    monkeypatch.setattr(Files, "free_bytes", lambda self: 2**20)
    with pytest.raises(StorageFull, match="delete old jobs or datasets"):
        take_in(database, settings, zip_bytes(dataset()))


def test_a_folder_without_a_row_is_replaced(database, settings, files):
    """A server that was killed between the folder and the row."""
    content = zip_bytes(dataset())
    found = take_in(database, settings, content)
    with database.writing() as session:
        session.delete(session.get_one(Dataset, found.id))
    (files.dataset(found.id) / "stale").touch()
    assert take_in(database, settings, content).id == found.id
    assert "stale" not in names(files.dataset(found.id))


def test_a_dataset_is_deleted_with_its_folder(database, settings, files):
    found = take_in(database, settings, zip_bytes(dataset()))
    with database.writing() as session:
        dataset_service.remove_dataset(session, found.id)
    dataset_service.discard_files(database, files, found.id)
    assert count(database) == 0
    assert names(files.root / "datasets") == []


def test_a_dataset_that_came_in_again_before_its_files_were_discarded_keeps_them(database, settings, files):
    content = zip_bytes(dataset())
    found = take_in(database, settings, content)
    before = names(files.dataset(found.id))
    with database.writing() as session:
        dataset_service.remove_dataset(session, found.id)
    take_in(database, settings, content)
    dataset_service.discard_files(database, files, found.id)
    assert names(files.dataset(found.id)) == before


def test_a_dataset_that_a_job_uses_stays(database, settings, files):
    found = take_in(database, settings, zip_bytes(dataset()))
    with database.writing() as session:
        a_job(session, file_id=found.id)
    with pytest.raises(DatasetInUse, match=f"1 jobs use dataset {found.id}; delete them first"):  # noqa: SIM117
        with database.writing() as session:
            dataset_service.remove_dataset(session, found.id)
    assert names(files.root / "datasets") == [found.id]


def test_an_unknown_dataset_is_said_to_be_unknown(database):
    for ask in (lambda s: dataset_service.get(s, "x"), lambda s: dataset_service.remove_dataset(s, "x")):
        with pytest.raises(DatasetNotFound, match="'x'"), database.writing() as session:
            ask(session)


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 10])
def test_pages_show_every_dataset_once_newest_first_also_those_of_one_moment(database, limit):
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    with database.writing() as session:
        for number in range(5):
            a_dataset(session, f"{number}" * 20, created_at=moment)
    found, cursor = [], None
    with database.reading() as session:
        while True:
            page = dataset_service.list_datasets(session, limit, cursor)
            found += [row.id[0] for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert found == ["4", "3", "2", "1", "0"]


def test_a_cursor_that_is_none_is_refused(database):
    with pytest.raises(InvalidCursor), database.reading() as session:
        dataset_service.list_datasets(session, 10, "nonsense")


def test_the_limits_of_a_zip_come_from_the_settings(settings):
    changed = settings.model_copy(update={"max_files": 7, "max_unpacked_mib": 2, "max_scan_pixels": 300})
    found = dataset_service.limits(changed)
    assert (found.max_files, found.max_unpacked_bytes, found.max_scan_pixels) == (7, 2 * 2**20, 300)
    assert found.max_ratio == changed.max_compression_ratio
