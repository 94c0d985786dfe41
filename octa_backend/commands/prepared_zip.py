"""A zip of scans and masks that a command computes on and keeps nothing of."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from octa_backend.data.intake import prepare
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.messages import describe
from octa_backend.service.dataset_service import limits
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.settings import Settings


@contextmanager
def prepared_zip(console: Console, archive: Path, beside: Path, settings: Settings) -> Iterator[EvaluatedZip]:
    """The zip as a prepared dataset, for as long as the block lasts; its findings are printed.

    Args:
        console: shows them.
        archive: the zip.
        beside: a folder that is there; the prepared dataset lies in it meanwhile.
        settings: limits and language.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # On Windows a folder whose arrays are still mapped cannot be removed; it is left to the next clean-up.
    with tempfile.TemporaryDirectory(dir=beside, prefix=".dataset-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "dataset"
        with console.status("checking the zip"):
            findings = prepare(archive, target, limits(settings)).findings
        for finding in findings:
            console.print(f"  {finding.severity}: {describe(finding, settings.language)['message']}", markup=False)
        yield EvaluatedZip(DatasetStore(target), archive.name, digest)
