"""A zip of scans and masks that a command computes on and keeps nothing of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from octa_backend.data.intake import prepare
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.messages import describe
from octa_backend.service.dataset_service import limits
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.settings import Settings
from octa_backend.storage.files import part_name, removed_after
from octa_backend.storage.outputs import output_folder


@dataclass(frozen=True, slots=True)
class PreparedZip:
    """A prepared dataset in a folder of its own, and the zip that it was made of."""

    folder: Path
    name: str
    sha256: str

    def open(self) -> EvaluatedZip:
        """Its scans; in a function of its own, which holds none of them once it is done: see `prepared_zip`."""
        return EvaluatedZip(DatasetStore(self.folder), self.name, self.sha256)


@contextmanager
def prepared_zip(console: Console, archive: Path, beside: Path, settings: Settings) -> Iterator[PreparedZip]:
    """The zip as a prepared dataset, for as long as the block lasts; its findings are printed.

    The block itself must not hold what it opens: Windows removes no file that is still mapped into memory.

    Args:
        console: shows them.
        archive: the zip.
        beside: a folder that is there; the prepared dataset lies in it meanwhile.
        settings: limits and language.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: the zip does not fit.
        OctaError: nothing can be written to `beside`.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = part_name(output_folder(beside) / "dataset")
    folder.mkdir(mode=0o700)  # somebody's eyes
    with removed_after(folder):
        target = folder / "dataset"
        with console.status("checking the zip"):
            findings = prepare(archive, target, limits(settings)).findings
        for finding in findings:
            console.print(f"  {finding.severity}: {describe(finding, settings.language)['message']}", markup=False)
        yield PreparedZip(target, archive.name, digest)
