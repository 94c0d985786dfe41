"""Where files lie, and how they are written: aside first, then renamed, so that nothing half-written is ever seen."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from octa_backend.errors import StorageFull
from octa_backend.settings import Settings
from octa_backend.storage.patience import patiently

PART_SUFFIX = ".part"
GONE_FILE = ".gone"
"""Marks a folder that could not be removed yet; it goes at the next start."""

LIVE_PART_SECONDS = 3600.0
"""A half-written model that is younger may be on its way: workers outlive their server, and `octa import` has none."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})
"""What the system answers when nothing more fits: no space left, or a quota is used up."""

RESERVE_BYTES = 64 * 2**20
"""Free space that is left alone, so that the database can still write when the disk runs full."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """The data folder's layout."""

    root: Path

    @classmethod
    def of(cls, settings: Settings) -> Files:
        """The layout of the settings' data folder."""
        return cls(settings.data_dir.absolute())

    @property
    def uploads(self) -> Path:
        """Uploads on their way in; emptied at start."""
        return self.root / "uploads"

    def dataset(self, file_id: str) -> Path:
        """A dataset's folder: the uploaded zip and the prepared arrays."""
        return self.root / "datasets" / file_id

    def job(self, job_id: str) -> Path:
        """A job's folder: log, checkpoints, pictures, TensorBoard files."""
        return self.root / "jobs" / job_id

    @property
    def models(self) -> Path:
        """The published models' folders."""
        return self.root / "models"

    def model(self, model_id: str) -> Path:
        """A published model's folder."""
        return self.models / model_id

    def job_log(self, job_id: str) -> Path:
        """What the job's workers printed, all attempts in turn."""
        return self.job(job_id) / "worker.log"

    def checkpoints(self, job_id: str) -> Path:
        """The job's checkpoints."""
        return self.job(job_id) / "checkpoints"

    def tensorboard(self, job_id: str) -> Path:
        """The job's TensorBoard files, all attempts together."""
        return self.job(job_id) / "tensorboard"

    @property
    def predictions(self) -> Path:
        """The folders of the predictions that are kept."""
        return self.root / "predictions"

    def prediction(self, prediction_id: str) -> Path:
        """A prediction's folder: its answer and its pictures."""
        return self.predictions / prediction_id

    @property
    def prediction_jobs(self) -> Path:
        """The folders of the prediction jobs."""
        return self.root / "prediction_jobs"

    def prediction_job(self, prediction_job_id: str) -> Path:
        """A prediction job's folder: the zip of its scans, until it is over."""
        return self.prediction_jobs / prediction_job_id

    def prepare(self) -> None:
        """Make the folders and clear what an earlier process left half-written."""
        for name in ("datasets", "jobs", "models", "uploads", "predictions", "prediction_jobs"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for leftover in list(self._leftovers()):
            discard(leftover)

    def _leftovers(self) -> Iterator[Path]:
        for folder in ("datasets", "jobs", "predictions", "prediction_jobs"):
            yield from (self.root / folder).glob(f"*{PART_SUFFIX}")
            yield from (mark.parent for mark in (self.root / folder).glob(f"*/{GONE_FILE}"))
        for pattern in (f"*{PART_SUFFIX}", f"*/exports/*{PART_SUFFIX}"):
            yield from filter(_is_left, self.models.glob(pattern))
        yield from (mark.parent for mark in self.models.glob(f"*/{GONE_FILE}"))
        yield from self.uploads.iterdir()

    def new_upload(self) -> Path:
        """A name no other request uses."""
        return self.uploads / f"{uuid.uuid4().hex}.zip{PART_SUFFIX}"

    def free_bytes(self) -> int:
        """Free space on the data folder's disk."""
        return shutil.disk_usage(self.root).free

    def require_free(self, wanted_bytes: int) -> None:
        """Refuse what would fill the disk.

        Raises:
            StorageFull: less than `wanted_bytes` and the reserve are free.
        """
        free = self.free_bytes()
        if free < wanted_bytes + RESERVE_BYTES:
            raise StorageFull(
                f"this needs {wanted_bytes / 2**20:.0f} MiB and {RESERVE_BYTES / 2**20:.0f} MiB must stay free, but "
                f"only {free / 2**20:.0f} MiB are free on the server's disk; delete old jobs or datasets"
            )


@contextmanager
def disk_full_explained(files: Files) -> Iterator[None]:
    """Turn the system's "no space left" into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        free = files.free_bytes() / 2**20
        raise StorageFull(
            f"the server's disk is full ({free:.0f} MiB free); delete old jobs or datasets; nothing was kept"
        ) from error


def part_name(target: Path) -> Path:
    """A hidden name beside `target` that nobody else uses; what is left under such a name is removed at start."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")


def _is_left(part: Path) -> bool:
    try:
        return time.time() - part.stat().st_mtime > LIVE_PART_SECONDS
    except OSError:  # it has become what it was to be
        return False


@contextmanager
def folder_written_aside(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` when the block ends well, and vanishes when it does not."""
    aside = part_name(target)
    aside.mkdir(parents=True)
    with removed_after(aside):
        yield aside
        move(aside, target)


def write_aside(target: Path, content: bytes) -> None:
    """Write a small file so that readers see the old or the new content, also after a power cut."""
    aside = part_name(target)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        move(aside, target)
    finally:
        remove(aside)


def sync_folder_files(folder: Path) -> None:
    """Have the disk keep every file of a folder before something points at it."""
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def move(path: Path, target: Path) -> Path:
    """Rename a file or a folder, in place of a file that is there."""
    return patiently(lambda: path.replace(target))


def remove(path: Path) -> None:
    """Remove a file or a folder; fine when it is not there."""
    if path.is_dir() and not path.is_symlink():
        patiently(lambda: shutil.rmtree(path, ignore_errors=False))
    else:
        patiently(lambda: path.unlink(missing_ok=True))


@contextmanager
def removed_after(folder: Path) -> Iterator[Path]:
    """Remove a folder after the block; where the system holds on to it, it stays, and a warning says so.

    Nothing in the block may go on using what it opened there: Windows removes no file that is open or mapped.
    """
    try:
        yield folder
    except BaseException as error:
        _let_go(error)
        raise
    finally:
        try:
            remove(folder)
        except OSError as problem:
            _log.warning("%s could not be removed, and is not needed any more: %s", folder, problem)


def _let_go(error: BaseException | None) -> None:
    """Drop what an error's tracebacks keep alive: files that the functions had open or mapped."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # an error may be named as its own cause
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def set_aside(folder: Path) -> Path:
    """Rename a folder that is to be discarded, at once; return where it is now, its old place if it is held there."""
    aside = part_name(folder)
    try:
        return move(folder, aside)
    except OSError:
        return folder


def discard(path: Path) -> None:
    """Remove what nothing points at any more; what the system holds on to goes at the next start."""
    try:
        remove(path)
    except OSError as error:
        _log.warning("%s could not be removed yet: %s", path, error)
        with contextlib.suppress(OSError):
            (path / GONE_FILE).touch()
