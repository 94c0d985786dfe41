"""The entries of a zip, their names decoded as whoever packed it meant them."""

from __future__ import annotations

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_UTF8_FLAG = 0x800
_UNICODE_PATH_FIELD = 0x7075


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive: its decoded path with `/`, and its unpacked size in bytes as declared."""

    name: str
    size: int
    is_folder: bool
    info: zipfile.ZipInfo


def members_of(archive: zipfile.ZipFile) -> Iterator[Member]:
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
    return (
        any(part == "__MACOSX" or part.startswith(".") for part in parts)
        or parts[-1].lower() in ("thumbs.db", "ehthumbs.db", "desktop.ini")
        or is_folder_icon(name)
    )


def is_folder_icon(name: str) -> bool:
    """True for the empty file that macOS leaves in a folder with a picture of its own; its name ends in a return."""
    return name.rpartition("/")[2] == "Icon\r"
