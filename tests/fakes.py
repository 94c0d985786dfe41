"""Hand-written stand-ins and short makers of rows, events and zips for the tests of services and API."""

from __future__ import annotations

import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from octa_backend.app import create_app
from octa_backend.controller.context import Context
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.prediction_runner import PredictionRunner
from octa_backend.service.process import ProcessMark
from octa_backend.service.supervisor import Supervisor
from octa_backend.settings import Settings
from octa_backend.storage.tables import Base, Dataset, EpochReport, GradientNorm, Job
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import GRADIENT_GROUPS, EpochFinished, StepFinished


class FakeLauncher:
    """A `Launcher` without processes: what was started lives until a test ends it."""

    def __init__(self) -> None:
        self.orders: list[WorkerOrder] = []
        self.marks: dict[str, ProcessMark] = {}
        self.stops = 0
        self.stopped: list[ProcessMark] = []
        self.refusal: Exception | None = None
        self.stop_fails: Exception | None = None
        self._exit_codes: dict[ProcessMark, int | None] = {}

    @property
    def jobs(self) -> list[str]:
        """The jobs whose attempts were started, in order."""
        return [order.job_id for order in self.orders]

    def start(self, order: WorkerOrder) -> ProcessMark:
        if self.refusal is not None:
            raise self.refusal
        self.orders.append(order)
        mark = ProcessMark(2**22 + len(self.orders), float(len(self.orders)))  # no such process on any machine
        self.marks[order.job_id] = mark
        return mark

    def is_alive(self, mark: ProcessMark) -> bool:
        return mark in self.marks.values() and mark not in self._exit_codes

    def stop(self, mark: ProcessMark) -> None:
        self.stops += 1
        if self.stop_fails is not None:
            raise self.stop_fails
        self.stopped.append(mark)
        self._exit_codes[mark] = -9

    def exit_code(self, mark: ProcessMark) -> int | None:
        return self._exit_codes.get(mark)

    def die(self, job_id: str, code: int | None) -> None:
        """End the process that works on a job."""
        self._exit_codes[self.marks[job_id]] = code


class HandSupervisor(Supervisor):
    """A supervisor whose thread does nothing: a round is made when a test calls `tick`."""

    def _watch(self) -> None:
        self._closing.wait()


class HandRunner(PredictionRunner):
    """A runner of prediction jobs whose thread does nothing: a test calls `work`."""

    def _watch(self) -> None:
        self._closing.wait()


class Api:
    """The app in this process: its lifespan and its requests run on an event loop in a thread; usable from threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        supervisor: type[Supervisor] = HandSupervisor,
        runner: type[PredictionRunner] = HandRunner,
    ) -> None:
        self.app: FastAPI = create_app(settings)
        self.launcher = FakeLauncher()
        self._supervisor, self._runner = supervisor, runner
        self._stack = ExitStack()
        self._portal: BlockingPortal
        self._client: httpx.AsyncClient

    def __enter__(self) -> Api:
        self._portal = self._stack.enter_context(start_blocking_portal())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("octa_backend.app.LocalLauncher", lambda files: self.launcher)
            patch.setattr("octa_backend.app.Supervisor", self._supervisor)
            patch.setattr("octa_backend.app.PredictionRunner", self._runner)
            lifespan = self.app.router.lifespan_context(self.app)
            self._stack.enter_context(self._portal.wrap_async_context_manager(lifespan))
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://octa", trust_env=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call(self._client.aclose)
        self._stack.close()

    @property
    def parts(self) -> Context:
        return self.app.state.context

    def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        return self._portal.call(partial(self._client.request, method, url, **given))

    def get(self, url: str, **given: Any) -> httpx.Response:
        return self.request("GET", url, **given)

    def post(self, url: str, **given: Any) -> httpx.Response:
        return self.request("POST", url, **given)

    def delete(self, url: str, **given: Any) -> httpx.Response:
        return self.request("DELETE", url, **given)

    def upload(self, content: bytes, url: str = "/datasets", name: str = "scans.zip", **fields: str) -> httpx.Response:
        return self.post(url, files={"file": (name, content, "application/zip")}, data=fields)

    def start(self, file_id: str, **config: Any) -> str:
        """Queue a job; return its id."""
        answer = self.post(f"/train/start-with-file/{file_id}", json=config)
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"]

    def tick(self) -> None:
        """One round of the supervisor."""
        self.parts.supervisor.tick()

    def call(self, scope: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Speak ASGI to the app: `messages` are what it receives; returns what it sent."""
        return self._portal.call(self._call, scope, messages)

    async def _call(self, scope: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        coming = iter(messages)
        sent: list[dict[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return next(coming, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        try:
            await self.app(dict(scope), receive, send)
        except Exception:  # noqa: BLE001
            if not sent:
                return []
        return sent

    def traces(self) -> dict[str, Any]:
        """All that a request can leave behind: names of files and folders, and the number of rows of each table."""
        root = self.parts.files.root
        folders = ("uploads", "datasets", "jobs", "models", "predictions", "prediction_jobs")
        names = {folder: sorted(path.name for path in (root / folder).iterdir()) for folder in folders}
        with self.parts.database.reading() as session:
            rows = {table.name: session.scalar(select(func.count()).select_from(table)) for table in _tables()}
        return {**names, "rows": rows}


def _tables() -> list[Any]:
    return Base.metadata.sorted_tables


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    """A body without a declared length, piece by piece."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def wait_for(what: str, check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Ask until the answer is true; fail with `what` after the deadline."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        pause.wait(0.02)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def linked(link: Path, target: Path) -> None:
    """Make a symbolic link, which takes a privilege on Windows."""
    try:
        link.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system lets the user make no symbolic links")


def open_databases() -> list[str]:
    """The database files that this process holds open."""
    return [file.path for file in psutil.Process().open_files() if ".sqlite3" in file.path]


# --- rows ------------------------------------------------------------------------------------------------------------


def a_dataset(session: Session, file_id: str = "d" * 20, **columns: Any) -> Dataset:
    given = {
        "sha256": file_id.ljust(64, "0"),
        "name": "scans.zip",
        "scans": 3,
        "channels": 1,
        "classes": 2,
        "spatial_dims": 2,
        "foreground_fraction": 0.25,
        "splits": {},
        "findings": [],
        "size_bytes": 1000,
    }
    dataset = Dataset(id=file_id, **{**given, **columns})
    session.add(dataset)
    session.flush()
    return dataset


def a_job(session: Session, **columns: Any) -> Job:
    """A queued job; makes its dataset where there is none."""
    file_id = columns.pop("file_id", "d" * 20)
    if session.get(Dataset, file_id) is None:
        a_dataset(session, file_id)
    config = TrainConfig(epochs=columns.pop("epochs", 10)).model_dump(mode="json")
    job = Job(file_id=file_id, config=config, **columns)
    session.add(job)
    session.flush()
    return job


NORMS = dict.fromkeys(GRADIENT_GROUPS, 0.05)


def a_step(epoch: int, step: int, steps: int = 4) -> StepFinished:
    components = {"bce": 0.3, "dice": 0.5}
    return StepFinished(epoch, step, steps, loss=0.4, loss_components=components, lr=5e-4, gradient_norms=NORMS)


def an_epoch(epoch: int, val_dice: float = 0.5) -> EpochFinished:
    return EpochFinished(
        epoch=epoch,
        train_loss=0.4,
        loss_components={"bce": 0.3, "dice": 0.5},
        val_loss=0.41,
        val_dice=val_dice,
        val_iou=val_dice / (2 - val_dice),
        val_precision=0.5,
        val_recall=0.5,
        lr=5e-4,
        seconds=2.0,
        scans_per_second=8.0,
        peak_memory_mb=100.0,
        gradient_norms=NORMS,
        gradient_verdict="healthy",
    )


def add_epochs(session: Session, job: Job, count: int) -> None:
    """Reports of epochs 1 to `count`, two gradient rows each."""
    for epoch in range(1, count + 1):
        columns = {name: getattr(an_epoch(epoch), name) for name in an_epoch(epoch).__slots__}
        session.add(EpochReport(job_id=job.id, **columns))
        for step in (1, 2):
            session.add(GradientNorm(job_id=job.id, epoch=epoch, step=step, loss=0.4, lr=5e-4, **NORMS))
    job.epoch, job.best_epoch, job.best_val_dice = count, count, 0.5
    job.touch()
    session.flush()


# --- archives and pictures ------------------------------------------------------------------------------------------


def zip_bytes(files: Mapping[str, bytes] | Sequence[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    """A zip in memory; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            entry = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is so large, with next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )
