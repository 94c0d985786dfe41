"""A zip that somebody uploaded, opened with suspicion.

Names, kinds and sizes are judged from the central directory before one byte is unpacked. Members are read straight from
the zip into memory; nothing is ever written under a name that the archive chose.
"""

from __future__ import annotations

import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from octa_backend.data.limits import MIB, mebibytes
from octa_backend.diagnosis.findings import MAX_SCANS
from octa_backend.errors import ArchiveTooLarge, InvalidArchive, UnreadableScan, UnsafeArchive

RATIO_APPLIES_ABOVE_BYTES = MIB
"""Small members may compress as well as they like: an all-black mask does."""

NESTED_ARCHIVES = (
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".7z", ".rar", ".zst", ".lz4"),
    *(".z", ".cab", ".iso", ".jar", ".arj", ".lzh"),
)
SCANS_WANTED = "a folder of images and a folder of masks"
GZIPPED_VOLUMES = (".nii.gz", ".img.gz", ".hdr.gz")

_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_UTF8_FLAG = 0x800
_UNICODE_PATH_FIELD = 0x7075
_DRIVE = re.compile(r"^[A-Za-z]:")
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


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive: its decoded path with `/`, and its unpacked size in bytes as declared."""

    name: str
    size: int
    is_folder: bool
    info: zipfile.ZipInfo


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
            entries = list(_members(self._zip))
            _check_safety(entries)
            files = [member for member in entries if not member.is_folder]
            _check_sizes(files, path.stat().st_size, max_files, max_unpacked_bytes, max_ratio)
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
        _refuse_count(f"at least {entries:,} folders and", max_files)
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


def _members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """All entries with their names decoded: UTF-8 where the zip says so, else one encoding for the whole archive."""
    infos = archive.infolist()
    encoding = _encoding(_raw_name(info) for info in infos if not info.flag_bits & _UTF8_FLAG)
    for info in infos:
        flagged = info.flag_bits & _UTF8_FLAG
        name = info.orig_filename if flagged else _unicode_path(info) or _raw_name(info).decode(encoding)
        yield Member(_plain_path(name), info.file_size, name.endswith(("/", "\\")), info)


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("cp437", errors="replace")


def _encoding(names: Iterable[bytes]) -> str:
    """The first of UTF-8, GB 18030 (Chinese Windows) and cp437 that fits all names.

    One for the archive: "é.png" and "é_mask.png" written in cp437 are not both valid GB 18030.
    """
    all_names = list(names)
    for encoding in ("utf-8", "gb18030"):
        try:
            for name in all_names:
                name.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "cp437"


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in Info-ZIP's Unicode Path field (0x7075), if it belongs to the entry's present name."""
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind != _UNICODE_PATH_FIELD or len(field) < 5 or field[0] != 1:
            continue
        if struct.unpack_from("<L", field, 1)[0] == zlib.crc32(_raw_name(info)):
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None


def _plain_path(name: str) -> str:
    """Composed letters (macOS writes decomposed ones), `/` between parts, no `.` parts; `..` stays to be refused."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    head = "/" if parts[0] == "" and len(parts) > 1 else ""
    return head + "/".join(part for part in parts if part not in ("", "."))


def left_behind(name: str) -> bool:
    """True for what operating systems leave among a user's files: hidden files, previews of pictures."""
    parts = name.split("/")
    return any(part == "__MACOSX" or part.startswith(".") for part in parts) or parts[-1].lower() in (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    )


def _check_safety(members: Iterable[Member]) -> None:
    offenders = [(member.name, reason) for member in members if (reason := _danger(member))]
    if offenders:
        named = "; ".join(f"{_printable(name)!r} is {reason}" for name, reason in offenders[:MAX_SCANS])
        more = f"; and {len(offenders) - MAX_SCANS} more" if len(offenders) > MAX_SCANS else ""
        raise UnsafeArchive(
            f"{len(offenders)} of the archive's entries are refused: {named}{more}; pack plain files into one zip"
        )


def _danger(member: Member) -> str | None:
    """What makes this entry one that is never unpacked, or None."""
    name, info = member.name, member.info
    kind = stat.S_IFMT(info.external_attr >> 16)
    dangers = {
        "without a name": not member.is_folder and not name.strip("/"),
        "named with control characters": any(unicodedata.category(letter) == "Cc" for letter in name),
        "an absolute path": name.startswith("/") or bool(_DRIVE.match(name)),
        "a path out of the archive": ".." in name.split("/"),
        "a link": kind == stat.S_IFLNK,
        "a special file": kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK),
        "encrypted": bool(info.flag_bits & _ENCRYPTED_FLAGS),
        "an archive in the archive": not member.is_folder and not left_behind(name) and _is_archive(name),
    }
    return next((danger for danger, is_so in dangers.items() if is_so), None)


def _is_archive(name: str) -> bool:
    lower = name.lower()
    return not lower.endswith(GZIPPED_VOLUMES) and any(lower.endswith(ending) for ending in NESTED_ARCHIVES)


def _printable(name: str) -> str:
    """A name as it can stand in a message: control and direction characters replaced."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(x) in ("Cc", "Cf") else x for x in name)


def _refuse_count(found: str, max_files: int) -> None:
    raise ArchiveTooLarge(f"the archive holds {found} files, {max_files:,} are allowed")


def _check_sizes(
    files: Sequence[Member], archive_bytes: int, max_files: int, max_unpacked_bytes: int, max_ratio: float
) -> None:
    if len(files) > max_files:
        _refuse_count(f"{len(files):,}", max_files)
    total = sum(member.size for member in files)
    if total > max_unpacked_bytes:
        raise ArchiveTooLarge(f"the archive unpacks to {mebibytes(total)}, {mebibytes(max_unpacked_bytes)} are allowed")
    large = [member for member in files if member.size > RATIO_APPLIES_ABOVE_BYTES]
    for member in large:
        if member.size > max_ratio * max(1, member.info.compress_size):
            ratio = member.size / max(1, member.info.compress_size)
            raise ArchiveTooLarge(f"{member.name} is compressed {ratio:,.0f} times, {max_ratio:,.0f} times are allowed")
    # Entries may share the same bytes, so the whole is held against the file on disk, not against declared sizes.
    if (unpacked := sum(member.size for member in large)) > max_ratio * archive_bytes:
        ratio = unpacked / max(1, archive_bytes)
        raise ArchiveTooLarge(f"the archive is compressed {ratio:,.0f} times, {max_ratio:,.0f} times are allowed")
