"""The files of an upload that is read twice, first for their headers and then for their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from octa_backend.data.archive_member import Member
from octa_backend.data.examination import Source
from octa_backend.data.limits import MIB

MOST_KEPT_BYTES = 32 * MIB


class KeptFiles:
    """A source that keeps what it reads until it is read again: the first `most_bytes` of it."""

    def __init__(self, source: Source, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._source = source
        self._kept: dict[str, bytes] = {}
        self._room = most_bytes
        self._lock = Lock()

    @property
    def members(self) -> Mapping[str, Member]:
        """Path -> file."""
        return self._source.members

    @property
    def duplicates(self) -> Mapping[str, int]:
        """Path -> how often it is there, for paths that are there more than once."""
        return self._source.duplicates

    def read(self, name: str, max_bytes: int) -> bytes:
        """One file's content.

        Raises:
            UnreadableScan: it is damaged, or larger than `max_bytes`.
        """
        with self._lock:
            kept = self._kept.pop(name, None)
        if kept is not None:
            return kept
        data = self._source.read(name, max_bytes)
        with self._lock:
            if len(data) <= self._room:
                self._room -= len(data)
                self._kept[name] = data
        return data
