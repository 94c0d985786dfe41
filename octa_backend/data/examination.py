"""What one pass over an upload shows, before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from octa_backend.data.archive_member import Member
from octa_backend.data.class_table import Labels
from octa_backend.data.pairing import Fault, Pair
from octa_backend.data.statistics import ScanStatistics
from octa_backend.data.volume_statistics import VolumeStatistics
from octa_backend.diagnosis.findings import Finding, Severity


class Source(Protocol):
    """Where files are read from: a zip (`archive.Archive`) or a folder (`folder.Folder`)."""

    @property
    def members(self) -> Mapping[str, Member]:
        """Path -> file."""

    @property
    def duplicates(self) -> Mapping[str, int]:
        """Path -> how often it is there, for paths that are there more than once."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """One file's content.

        Raises:
            UnreadableScan: it is damaged, or larger than `max_bytes`.
        """


@dataclass(frozen=True, slots=True)
class Examination:
    """A dataset as it was found.

    Attributes:
        pairs: the scans by name, as the files' names show them, usable or not.
        statistics: of every picture whose two files could be decoded, in the order of `pairs`.
        faults: what was noticed file by file: unreadable files, files without partner, sizes that differ, …
        mask_values: the value of class 0, 1, … in the masks; empty where the masks' values make no sense together.
        findings: all that the checks say, errors first.
        labels: what the values of the masks are called, where the upload says so.
        volumes: of every volume whose files could be decoded; a dataset has pictures or volumes.
        spatial_dims: 2 of pictures, 3 of volumes.
    """

    pairs: tuple[Pair, ...]
    statistics: tuple[ScanStatistics, ...]
    faults: tuple[Fault, ...]
    mask_values: tuple[int, ...]
    findings: tuple[Finding, ...]
    labels: Labels = field(default_factory=dict)
    volumes: tuple[VolumeStatistics, ...] = ()
    spatial_dims: int = 2

    @property
    def readable(self) -> int:
        """How many scans could be decoded."""
        return len(self.statistics) + len(self.volumes)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a training."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)
