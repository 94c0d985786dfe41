"""How an attempt's process is started and watched. `Launcher` is the seam for other engines than local processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Protocol

import psutil
from pydantic import BaseModel, ConfigDict

from octa_backend.diagnosis.text import Language
from octa_backend.service.process import KILL_WAIT_SECONDS, ProcessMark, detached, worker_environment
from octa_backend.settings import Settings
from octa_backend.storage.files import Files


class WorkerOrder(BaseModel):
    """What a worker needs to know to begin; it reads this as one JSON line from its standard input.

    Not from its arguments: every user of the machine can read those, and the database's address may hold a password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    attempt_id: str
    data_dir: str
    database_url: str
    device: str
    heartbeat_seconds: float
    niceness: int
    language: Language

    @classmethod
    def of(cls, settings: Settings, job_id: str, attempt_id: str) -> WorkerOrder:
        """The order for one attempt."""
        return cls(
            job_id=job_id,
            attempt_id=attempt_id,
            data_dir=str(Files.of(settings).root),
            database_url=settings.effective_database_url,
            device=settings.device,
            heartbeat_seconds=settings.heartbeat_seconds,
            niceness=settings.worker_niceness,
            language=settings.language,
        )


class Launcher(Protocol):
    """Starts an attempt's process, tells whether it lives, and ends it."""

    def start(self, order: WorkerOrder) -> ProcessMark:
        """Start the attempt's process and return at once."""

    def is_alive(self, mark: ProcessMark) -> bool:
        """Whether the process still runs, also one that an earlier server started."""

    def stop(self, mark: ProcessMark) -> None:
        """End the process at once."""

    def exit_code(self, mark: ProcessMark) -> int | None:
        """Its exit code, negative for a signal; None where it is not known."""


class LocalLauncher:
    """Workers as processes of this machine: new interpreters, never forks."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._children: dict[ProcessMark, subprocess.Popen[bytes]] = {}

    def start(self, order: WorkerOrder) -> ProcessMark:
        """Start a worker whose output goes to the end of the job's log."""
        log = self._files.job_log(order.job_id)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "octa_backend.service.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=worker_environment(os.environ),
                **detached(),
            )
        mark = ProcessMark.of(child.pid)
        self._children[mark] = child
        assert child.stdin is not None
        with child.stdin as pipe:
            pipe.write(order.model_dump_json().encode() + b"\n")
        return mark

    def is_alive(self, mark: ProcessMark) -> bool:
        """Ask the system, and collect a dead child."""
        child = self._children.get(mark)
        return child.poll() is None if child else mark.is_alive()

    def stop(self, mark: ProcessMark) -> None:
        """Kill the process and collect it.

        Raises:
            psutil.TimeoutExpired: it does not go, because it hangs in the system.
        """
        child = self._children.get(mark)
        if child is None:
            mark.kill()
            return
        child.kill()
        try:
            child.wait(KILL_WAIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise psutil.TimeoutExpired(error.timeout, mark.pid) from error

    def exit_code(self, mark: ProcessMark) -> int | None:
        """Known for a worker that this server started, not for an adopted one."""
        child = self._children.get(mark)
        return child.poll() if child else None
