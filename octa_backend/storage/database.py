"""The database: engine, sessions and migrations. All that is SQLite's own stands here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from octa_backend.errors import DatabaseUnusable

HEAD = "0011"
"""The newest migration; a test compares it with the folder."""

WRITE = "octa_write"
BUSY_SECONDS = 30


class Database:
    """One engine per process; sessions that read, and sessions that write.

    Raises:
        DatabaseUnusable: the URL is none, or the driver that it names is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _make_engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading; nothing is committed."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: committed when the block ends well, else rolled back.

        It takes SQLite's write lock at its start: a transaction that first reads and then writes would fail at
        once, without waiting, if another had written in between.
        """
        with self._sessions() as session:
            session.connection(execution_options={WRITE: True})
            yield session
            session.commit()

    def migrate(self) -> None:
        """Bring the schema to the newest version; the one place that changes it.

        Raises:
            DatabaseUnusable: it does not answer, is no database, or is of a newer program.
        """
        if self._known_version() != HEAD:  # importing Alembic costs a noticeable part of the start
            from alembic import command  # noqa: PLC0415
            from alembic.config import Config  # noqa: PLC0415

            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
            with self.engine.execution_options(**{WRITE: True}).begin() as connection:  # a worker may beat meanwhile
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def require_current(self) -> None:
        """Refuse a database that cannot be read as it is.

        Raises:
            DatabaseUnusable: as of `migrate`, or it is of an older program.
        """
        if self._known_version() != HEAD:
            raise DatabaseUnusable(
                f"{self._place} is of an older version of the program; octa serve brings it up to date"
            )

    def _known_version(self) -> str | None:
        try:
            found = self._version()
        except DBAPIError as error:
            raise DatabaseUnusable(f"{self._place}: {error.orig}; {self._what_it_must_be}") from error
        if found is not None and found > HEAD:
            raise DatabaseUnusable(
                f"{self._place} has the schema {found} of a newer version of the program, which knows {HEAD} at most; "
                "install the newer one, or set OCTA_DATA_DIR to another folder"
            )
        return found

    def _version(self) -> str | None:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return None if found is None else str(found)

    @property
    def _is_file(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def _place(self) -> str:
        """The file, or the URL without its password."""
        url = self.engine.url
        return str(url.database) if self._is_file else url.render_as_string(hide_password=True)

    @property
    def _what_it_must_be(self) -> str:
        if self._is_file:
            return "the file must be a database, or not be there yet, in a folder that may be written"
        return "its server must run and let this name in"

    def is_ready(self) -> bool:
        """Whether the database answers and its schema is current."""
        try:
            return self._version() == HEAD
        except SQLAlchemyError:
            return False

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _make_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return _engine_of_server(url)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _engine_of_server(url: str) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise DatabaseUnusable(f"OCTA_DATABASE_URL names the driver {error.name}, which is not installed") from error
    except NoSuchModuleError as error:
        raise DatabaseUnusable(f"OCTA_DATABASE_URL names a kind of database that is not known: {error}") from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would else begin transactions by its own rules
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_SECONDS * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
