from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from octa_backend.storage.database import BUSY_SECONDS, Database
from octa_backend.storage.tables import Dataset, Job
from tests.fakes import a_dataset, a_job


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 1),  # NORMAL
        ("foreign_keys", 1),
        ("busy_timeout", BUSY_SECONDS * 1000),
    ],
)
def test_the_pragmas_are_on_in_every_session(database, pragma, value):
    with database.reading() as one, database.reading() as other:
        for session in (one, other):
            assert session.execute(text(f"PRAGMA {pragma}")).scalar() == value


def test_a_row_that_points_at_nothing_is_refused(database):
    with pytest.raises(IntegrityError), database.writing() as session:
        session.add(Job(file_id="nothing", config={}))


def test_deleting_a_dataset_that_a_job_uses_is_refused_by_the_database_too(database):
    with database.writing() as session:
        a_job(session)
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(text("DELETE FROM datasets"))


def test_a_writing_block_that_raises_leaves_nothing(database):
    with pytest.raises(RuntimeError), database.writing() as session:  # noqa: PT012
        a_dataset(session)
        raise RuntimeError
    with database.reading() as session:
        assert session.scalars(select(Dataset)).all() == []


def test_a_reading_block_commits_nothing(database):
    with database.reading() as session:
        a_dataset(session)
    with database.reading() as session:
        assert session.scalars(select(Dataset)).all() == []


def test_rows_can_be_used_after_their_session(database):
    with database.writing() as session:
        job = a_job(session)
    assert job.state == "queued"


def test_a_reader_sees_one_moment_while_another_writes(database):
    with database.reading() as reader:
        before = reader.scalars(select(Dataset)).all()
        with database.writing() as session:
            a_dataset(session)
        assert reader.scalars(select(Dataset)).all() == before == []


def test_transactions_that_read_and_then_write_take_turns(settings, database):
    """Without the write lock at its start, one of two such transactions fails at once as 'database is locked'."""
    with database.writing() as session:
        job_id = a_job(session).id
    databases = [database, Database(settings.effective_database_url)]

    def count_up(own: Database) -> None:
        for _ in range(25):
            with own.writing() as session:
                session.get_one(Job, job_id).touch()

    threads = [threading.Thread(target=count_up, args=(databases[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert session.get_one(Job, job_id).version == 1 + 4 * 25
    databases[1].close()
