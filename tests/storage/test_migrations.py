from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from octa_backend.errors import DatabaseUnusable
from octa_backend.storage import database as database_module
from octa_backend.storage.database import HEAD, Database
from octa_backend.storage.tables import Base
from tests.fakes import a_dataset


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config)


def schema(database: Database) -> list[tuple[object, ...]]:
    with database.reading() as session:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
        return [tuple(row) for row in session.connection().exec_driver_sql(query)]


def test_the_upgraded_schema_is_the_one_of_the_tables(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_head_is_the_newest_revision():
    assert scripts().get_heads() == [HEAD]


def test_migrating_again_changes_nothing_and_keeps_rows(database):
    with database.writing() as session:
        a_dataset(session)
    before = schema(database)
    database.migrate()
    assert schema(database) == before
    with database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM datasets").scalar() == 1


def test_a_new_database_becomes_ready_by_migrating(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'new 100%.sqlite3'}")
    assert not database.is_ready()
    database.migrate()
    assert database.is_ready()
    database.close()


@pytest.mark.parametrize("use", [Database.migrate, Database.require_current])
def test_a_file_that_is_no_database_is_named_and_stays_as_it_is(tmp_path, use):
    path = tmp_path / "octa.sqlite3"
    path.write_bytes(b"what a disk left of it" * 100)
    with closing(Database(f"sqlite:///{path}")) as database, pytest.raises(DatabaseUnusable) as refused:
        use(database)
    assert refused.value.message.startswith(f"{path}: file is not a database;")
    assert path.read_bytes() == b"what a disk left of it" * 100


@pytest.mark.parametrize("use", [Database.migrate, Database.require_current])
def test_a_database_of_a_newer_program_is_refused_and_stays_as_it_is(database, use):
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = schema(database)
    with pytest.raises(DatabaseUnusable, match=f"has the schema 9999 of a newer version .* knows {HEAD} at most"):
        use(database)
    assert schema(database) == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://octa@db/octa", "a kind of database that is not known: .*nosuch"),
        ("postgresql+nosuch://octa@db/octa", "a kind of database that is not known: .*postgresql.nosuch"),
        ("mssql+pymssql://octa@db/octa", "the driver pymssql, which is not installed"),
    ],
)
def test_an_address_of_a_database_that_cannot_be_opened_is_told_in_words(url, words):
    with pytest.raises(DatabaseUnusable, match=f"OCTA_DATABASE_URL names {words}"):
        Database(url)


def test_every_revision_can_be_taken_back(database):
    migrations = [script.module for script in scripts().walk_revisions()]
    with database.engine.begin() as connection:
        context = MigrationContext.configure(connection)

        with Operations.context(context):
            for migration in migrations:
                migration.downgrade()
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_a_worker_that_writes_while_the_schema_is_upgraded_is_waited_for(tmp_path, monkeypatch):
    """The upgrade reads first; had a worker written in between, SQLite would refuse its first write at once."""
    path = tmp_path / "old.sqlite3"
    with closing(Database(f"sqlite:///{path}")) as database, closing(sqlite3.connect(path, timeout=0.1)) as worker:
        worker.execute("CREATE TABLE beats (at INTEGER)")
        worker.commit()
        run, refused = MigrationContext.run_migrations, []

        def beaten(self, **given):
            self.get_current_heads()
            try:
                worker.execute("INSERT INTO beats VALUES (1)")
                worker.commit()
            except sqlite3.OperationalError as error:
                refused.append(str(error))
            run(self, **given)

        monkeypatch.setattr(MigrationContext, "run_migrations", beaten)
        database.migrate()
        assert database.is_ready()
    assert refused == ["database is locked"]
