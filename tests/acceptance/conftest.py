"""A fresh server per test, and one small zip of scans for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from octa_backend.data.synthetic import write_zip
from tests.acceptance.server import Server


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight synthetic scans of 32 x 32, of four patients."""
    path = tmp_path_factory.mktemp("zips") / "scans.zip"
    write_zip(path, 8, size=32, seed=1)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server on an empty data folder."""
    running = Server(tmp_path / "data", heartbeat_seconds="0.5").start()
    yield running
    running.stop()
