"""One server per data folder: a small file says which process it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from octa_backend.errors import DataFolderInUse
from octa_backend.service.process import ProcessMark
from octa_backend.storage.files import Files, remove, write_aside


@contextmanager
def only_server(files: Files) -> Iterator[None]:
    """Hold the data folder; a mark left by a process that is gone does not count.

    Raises:
        DataFolderInUse: another server that lives holds it.
    """
    path = files.root / "server.json"
    me = ProcessMark.of_self()
    if path.exists():
        other = ProcessMark(**json.loads(path.read_text("utf-8")))
        if other.pid != me.pid and other.is_alive():
            raise DataFolderInUse(
                f"process {other.pid} already serves {files.root}; stop it, or set OCTA_DATA_DIR to another folder"
            )
    write_aside(path, json.dumps(asdict(me)).encode())
    try:
        yield
    finally:
        remove(path)
