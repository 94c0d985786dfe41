"""What the directory of a zip is refused for, before one byte is unpacked."""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NoReturn

from octa_backend.data.archive_member import Member, is_folder_icon, left_behind
from octa_backend.data.limits import MIB, mebibytes
from octa_backend.diagnosis.findings import MAX_SCANS
from octa_backend.errors import ArchiveTooLarge, UnsafeArchive

RATIO_APPLIES_ABOVE_BYTES = MIB
"""Small members do not count: however well they compress, they are small."""

NESTED_ARCHIVES = (
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".7z", ".rar", ".zst", ".lz4"),
    *(".z", ".cab", ".iso", ".jar", ".arj", ".lzh"),
)
GZIPPED_VOLUMES = (".nii.gz", ".img.gz", ".hdr.gz")

_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_DRIVE = re.compile(r"^[A-Za-z]:")


def check_safety(members: Iterable[Member]) -> None:
    """See that every entry may be unpacked.

    Raises:
        UnsafeArchive: one is a path outside of the archive, a link, encrypted, or another archive.
    """
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
        "named with control characters": not is_folder_icon(name)
        and any(unicodedata.category(letter) == "Cc" for letter in name),
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


def check_sizes(
    files: Sequence[Member], archive_bytes: int, max_files: int, max_unpacked_bytes: int, max_ratio: float
) -> None:
    """See that the files are no more than scans can be, as the directory declares them.

    How well they compress is asked of all together: an uncompressed mask of a volume becomes smaller by up to the 1032
    times that deflate can do, the image beside it does not.

    Raises:
        ArchiveTooLarge: too many files or bytes, or compressed more than scans can be.
    """
    if len(files) > max_files:
        refuse_count(f"{len(files):,}", max_files)
    total = sum(member.size for member in files)
    if total > max_unpacked_bytes:
        raise ArchiveTooLarge(f"the archive unpacks to {mebibytes(total)}, {mebibytes(max_unpacked_bytes)} are allowed")
    # Entries may share the same bytes, so they are held against the file on disk, not against declared sizes.
    unpacked = sum(member.size for member in files if member.size > RATIO_APPLIES_ABOVE_BYTES)
    if unpacked > max_ratio * archive_bytes:
        ratio = unpacked / max(1, archive_bytes)
        raise ArchiveTooLarge(
            f"the archive is compressed {ratio:,.0f} times, {max_ratio:,.0f} times are allowed; send files as they "
            "are usually kept: PNG, .nii.gz, a .pt of torch.save"
        )


def refuse_count(found: str, max_files: int) -> NoReturn:
    """Say how many files there are.

    Raises:
        ArchiveTooLarge: always.
    """
    raise ArchiveTooLarge(f"the archive holds {found} files, {max_files:,} are allowed")
