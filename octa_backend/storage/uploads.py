"""Uploads on their way in: written piece by piece, hashed and measured, and gone unless somebody keeps them."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from octa_backend.storage.files import Files, discard, disk_full_explained


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has arrived: where it is for now, its content's hash, its size and the name it came with."""

    path: Path
    sha256: str
    size_bytes: int
    name: str


def measured_upload(path: Path, name: str) -> Upload:
    """A file that was made here, as if it had been uploaded."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Upload(path, digest, path.stat().st_size, name)


class UploadWriter:
    """Receives one file; memory does not grow with it."""

    def __init__(self, files: Files, name: str) -> None:
        self.name = name
        self._files = files
        self._path = files.new_upload()
        with disk_full_explained(files):
            self._file = self._path.open("wb")
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            StorageFull: it would fill the disk.
        """
        self._files.require_free(len(piece))
        with disk_full_explained(self._files):
            self._file.write(piece)
        self._digest.update(piece)
        self._size += len(piece)

    def close(self) -> Upload:
        """All has arrived."""
        with disk_full_explained(self._files):
            self._file.close()
        return Upload(self._path, self._digest.hexdigest(), self._size, self.name)

    def discard(self) -> None:
        """Remove the file, whether or not it was complete; fine when somebody has moved it away."""
        with contextlib.suppress(OSError):  # closing writes what is left, which a full disk refuses again
            self._file.close()
        discard(self._path)

    def __enter__(self) -> UploadWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()
