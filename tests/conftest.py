"""Real SQLite and real files in `tmp_path`, and the app without processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from tests.data.zips import dataset
from tests.fakes import Api, zip_bytes


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file, made once; tests work on copies of it."""
    path = tmp_path_factory.mktemp("database") / "octa.sqlite3"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", engine="torch")  # no exports in the background


@pytest.fixture
def files(settings: Settings) -> Files:
    found = Files.of(settings)
    found.prepare()
    return found


@pytest.fixture
def database(settings: Settings, files: Files, migrated: Path) -> Iterator[Database]:
    shutil.copyfile(migrated, files.root / "octa.sqlite3")
    opened = Database(settings.effective_database_url)
    yield opened
    opened.close()


@pytest.fixture
def api(settings: Settings, database: Database) -> Iterator[Api]:
    """The app on an empty data folder; its supervisor makes a round when `api.tick()` says so."""
    with Api(settings) as running:
        yield running


@pytest.fixture
def file_id(api: Api) -> str:
    """A dataset of three scans."""
    return api.upload(zip_bytes(dataset())).json()["file_id"]
