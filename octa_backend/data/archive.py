"""A zip that somebody uploaded, opened with suspicion.

Names, kinds and sizes are judged from the central directory before one byte is unpacked. Members are read straight from
the zip into memory; nothing is ever written under a name that the archive chose.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from octa_backend.data.archive_checks import check_safety, check_sizes, refuse_count
from octa_backend.data.archive_member import left_behind, members_of
from octa_backend.data.limits import MIB, mebibytes
from octa_backend.errors import InvalidArchive, UnreadableScan

SCANS_WANTED = "a folder of images and a folder of masks"
PREDICTED_WANTED = "the scans to segment, images or volumes,"

_OTHER_ARCHIVES = {
    b"Rar!": "a RAR",
    b"7z\xbc\xaf": "a 7z",
    b"\x1f\x8b": "a gzip",
    b"BZh": "a bzip2",
    b"\xfd7zX": "an xz",
}

# What zipfile raises for a directory or a member that is damaged, forged, or of a kind it cannot read.
_ZIP_FAULTS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError,
    LookupError, ArithmeticError, RuntimeError, MemoryError,
)  # fmt: skip


class Archive:
    """A zip that passed the checks of its directory; a context manager.

    Attributes:
        members: path -> the files in it, without those that operating systems leave behind. The first of duplicates.
        duplicates: path -> how often it is there, for paths that are there more than once.
    """

    def __init__(
        self, path: Path, *, max_files: int, max_unpacked_bytes: int, max_ratio: float, wanted: str = SCANS_WANTED
    ) -> None:
        """Open and check an archive; `wanted` says what belongs into an empty one.

        Raises:
            InvalidArchive: not a zip, cut off, or without files.
            UnsafeArchive: it holds paths outside of itself, links, encrypted members or other archives.
            ArchiveTooLarge: more files or bytes than allowed, or compressed more than scans can be.
        """
        self._zip = _open(path, max_files)
        try:
            entries = list(members_of(self._zip))
            check_safety(entries)
            files = [member for member in entries if not member.is_folder]
            check_sizes(files, path.stat().st_size, max_files, max_unpacked_bytes, max_ratio)
            kept = [member for member in files if not left_behind(member.name)]
            if not kept:
                raise InvalidArchive(f"the archive is empty; put {wanted} into it")
        except BaseException:
            self._zip.close()
            raise
        self.members = {member.name: member for member in reversed(kept)}
        times = Counter(member.name for member in kept)
        self.duplicates = {name: count for name, count in times.items() if count > 1}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, max_bytes: int) -> bytes:
        """Unpack one member into memory.

        Never unpacks more than the member's declared size.

        Raises:
            UnreadableScan: it declares more than `max_bytes`, its data is damaged, or its declared size is a lie.
        """
        member = self.members[name]
        if member.size > max_bytes:
            raise UnreadableScan(f"{name} unpacks to {mebibytes(member.size)}, {mebibytes(max_bytes)} are allowed")
        try:
            with self._zip.open(member.info) as stream:
                data = stream.read(member.size + 1)
        except _ZIP_FAULTS as error:
            raise UnreadableScan(f"{name} is damaged in the archive: {str(error) or type(error).__name__}") from error
        if len(data) != member.size:
            raise UnreadableScan(f"{name} is damaged in the archive: {len(data)} bytes, {member.size} declared")
        return data

    def pieces(self, name: str) -> Iterator[bytes]:
        """Unpack one member piece by piece; never more than its declared size.

        Raises:
            InvalidArchive: its data is damaged, or its declared size is a lie.
        """
        member, unpacked = self.members[name], 0
        try:
            with self._zip.open(member.info) as stream:
                while unpacked <= member.size and (piece := stream.read(min(MIB, member.size + 1 - unpacked))):
                    unpacked += len(piece)
                    yield piece
        except _ZIP_FAULTS as error:
            raise InvalidArchive(f"{name} is damaged in the archive: {str(error) or type(error).__name__}") from error
        if unpacked != member.size:
            raise InvalidArchive(f"{name} is damaged in the archive: {unpacked} bytes, {member.size} declared")


def _open(path: Path, max_files: int) -> zipfile.ZipFile:
    with path.open("rb") as file:
        start = file.read(4)
        most = 2 * max_files + 1000  # as many folders as files, and some
        entries = _count_entries(file, stop=most)
    if not start:
        raise InvalidArchive("the upload is empty (0 bytes); send a zip archive")
    if entries >= most:
        refuse_count(f"at least {entries:,} folders and", max_files)
    try:
        return zipfile.ZipFile(path)
    except _ZIP_FAULTS as error:
        raise InvalidArchive(_what_it_is(start, str(error))) from error


def _what_it_is(start: bytes, reason: str) -> str:
    for signature, kind in _OTHER_ARCHIVES.items():
        if start.startswith(signature):
            return f"the upload is {kind} archive; send a zip archive"
    if start.startswith(b"PK"):
        return f"the zip archive is damaged or was cut off ({reason}); pack and send it again"
    return f"the upload is not a zip archive ({reason}); send a zip archive"


def _count_entries(file: BinaryIO, stop: int) -> int:
    """Entries of the central directory, counted at most to `stop`, before zipfile makes an object of each.

    Returns 0 where no directory is found; zipfile then says what is wrong.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    if (at := tail.rfind(b"PK\5\6")) < 0 or len(tail) - at < 22:
        return 0
    end = size - len(tail) + at
    directory_size = struct.unpack_from("<L", tail, at + 12)[0]
    if at >= 76 and tail[at - 76 : at - 72] == b"PK\6\6":
        directory_size, end = struct.unpack_from("<Q", tail, at - 36)[0], end - 76
    position, count = end - directory_size, 0
    while 0 <= position <= end - 46 and count < stop:
        file.seek(position)
        header = file.read(46)
        if header[:4] != b"PK\1\2":
            break
        position += 46 + sum(struct.unpack_from("<HHH", header, 28))
        count += 1
    return count
