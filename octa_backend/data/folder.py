"""A dataset that lies unpacked in a folder of this machine, read as an uploaded zip is."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from octa_backend.data.archive import SCANS_WANTED
from octa_backend.data.archive_member import Member, left_behind
from octa_backend.data.limits import mebibytes
from octa_backend.diagnosis.findings import MAX_SCANS
from octa_backend.errors import ArchiveTooLarge, InvalidArchive, UnreadableScan


class Folder:
    """The files of a folder and of all folders in it, read where they lie; a context manager.

    Attributes:
        members: path below the folder, with `/` and composed letters -> file, in the order of the paths. Links, hidden
            files and what operating systems leave behind are passed over.
        duplicates: path -> how often it is there: empty, but for names that differ only in how their letters are
            composed.
    """

    def __init__(self, path: Path, *, max_files: int, wanted: str = SCANS_WANTED) -> None:
        """List a folder; `wanted` says what belongs into an empty one.

        Raises:
            InvalidArchive: it is no folder, cannot be read, holds no files, or one whose name no zip may have.
            ArchiveTooLarge: it holds more than `max_files` files.
        """
        if not path.is_dir():
            raise InvalidArchive(
                f"{path} is {'not a folder' if path.exists() else 'not there'}; name a folder of scans"
            )
        self._files: dict[str, Path] = {}
        names: list[str] = []
        for file in _files_below(path):
            if len(names) == max_files:
                raise ArchiveTooLarge(f"{path} holds more than {max_files:,} files, {max_files:,} are allowed")
            names.append(_member_name(file, path))
            self._files.setdefault(names[-1], file)
        if not names:
            raise InvalidArchive(f"{path} holds no files (links and hidden files do not count); put {wanted} into it")
        _check_names(names)
        self.members = {name: _member(name, self._files[name]) for name in sorted(self._files)}
        self.duplicates = {name: count for name, count in Counter(names).items() if count > 1}

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between two files."""

    def sha256(self) -> str:
        """Of all names and contents: equal folders have equal ones, wherever they lie.

        Raises:
            InvalidArchive: a file cannot be read.
        """
        digest = hashlib.sha256()
        for name in self.members:
            try:
                with self._files[name].open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise InvalidArchive(f"{self._files[name]} cannot be read: {error.strerror or error}") from error
            digest.update(f"{content} {name}\n".encode())
        return digest.hexdigest()

    def read(self, name: str, max_bytes: int) -> bytes:
        """One file's content.

        Raises:
            UnreadableScan: it is larger than `max_bytes`, is gone, or may not be read.
        """
        try:
            with self._files[name].open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read(max_bytes + 1) if size <= max_bytes else b""
        except OSError as error:
            raise UnreadableScan(f"{name} cannot be read: {error.strerror or error}") from error
        if max(size, len(data)) > max_bytes:
            raise UnreadableScan(f"{name} has {mebibytes(max(size, len(data)))}, {mebibytes(max_bytes)} are allowed")
        return data


def _files_below(folder: Path) -> Iterator[Path]:
    """All plain files; hidden folders are not entered, links not followed."""
    waiting = [folder]
    while waiting:
        for entry in _listed(waiting.pop()):
            if left_behind(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidArchive(f"{folder} cannot be read: {error.strerror or error}") from error


def _member_name(file: Path, folder: Path) -> str:
    """The path as a zip would hold it; macOS decomposes letters."""
    return unicodedata.normalize("NFC", file.relative_to(folder).as_posix())


def _member(name: str, file: Path) -> Member:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise InvalidArchive(f"{file} cannot be read: {error.strerror or error}") from error
    return Member(name, size, False, zipfile.ZipInfo(name))


def _check_names(names: list[str]) -> None:
    """Refuse names that would mean something else, or nothing, in a zip: a repaired copy is one."""
    odd = [name for name in names if any(_is_odd(letter) for letter in name)]
    if odd:
        named = ", ".join(ascii(name) for name in odd[:MAX_SCANS])
        more = f" and {len(odd) - MAX_SCANS} more" if len(odd) > MAX_SCANS else ""
        raise InvalidArchive(
            f"{len(odd)} files have names with control characters, backslashes or bytes that are not UTF-8: "
            f"{named}{more}; rename them"
        )


def _is_odd(letter: str) -> bool:
    return letter == "\\" or unicodedata.category(letter) in ("Cc", "Cs")
