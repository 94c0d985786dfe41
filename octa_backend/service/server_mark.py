"""One server per data folder: a small file says which process it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from octa_backend.errors import DataFolderInUse
from octa_backend.service.process import ProcessMark
from octa_backend.storage.files import Files, remove, write_aside


@contextmanager
def only_server(files: Files) -> Iterator[None]:
    """Hold the data folder; a mark left by a process that is gone does not count.

    Raises:
        DataFolderInUse: another server that lives holds it, or the mark does not say which.
    """
    path = files.root / "server.json"
    me = ProcessMark.of_self()
    if path.exists():
        other = _read(path)
        if other.pid != me.pid and other.is_alive():
            raise DataFolderInUse(
                f"process {other.pid} already serves {files.root}; stop it, or set OCTA_DATA_DIR to another folder"
            )
    write_aside(path, json.dumps(asdict(me)).encode())
    try:
        yield
    finally:
        remove(path)


def _read(path: Path) -> ProcessMark:
    try:
        return ProcessMark(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise DataFolderInUse(
            f"{path} does not say which process serves there ({error}); delete it if none does"
        ) from error
