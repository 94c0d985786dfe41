"""Operating-system facts about processes: the one place that knows where Windows and Linux differ."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CLOCK_TOLERANCE_SECONDS = 2.0
"""A process's start time shifts a little when the system's clock is set."""

KILL_WAIT_SECONDS = 10.0

AUTOGROUP = Path("/proc/self/autogroup")
"""Linux schedules each session as one group: a process's own niceness counts only within its session, and a worker is
in a session of its own, so the group's niceness must be set as well."""

MALLOC_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""glibc keeps freed memory: without this every large tensor is mapped and page-faulted anew."""

MALLOPT_SETTINGS = {
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),
    "MALLOC_TOP_PAD_": (-2, 256 * 2**20),
}
"""The same for a process that runs already: numbers of `mallopt(3)` and their values; -1 is "never trim"."""

CUBLAS_SETTINGS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it torch refuses matrix products on CUDA in a training that is `deterministic`."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """Which process is meant: ids are used again after a while, so its start time (seconds since 1970) counts too."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """The mark of a process that runs now."""
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def of_self(cls) -> ProcessMark:
        """The mark of this process."""
        return cls.of(os.getpid())

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < CLOCK_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return self._find() is not None

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        process = self._find()
        if process is None:
            return
        try:
            process.kill()
            process.wait(KILL_WAIT_SECONDS)
        except psutil.NoSuchProcess:
            return


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment a worker starts with; what the user has set himself stays."""
    malloc = MALLOC_SETTINGS if sys.platform == "linux" else {}
    return {**malloc, **CUBLAS_SETTINGS, **environment, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees, as workers do; what the user has set himself stays.

    Returns:
        Whether the settings hold: they are of glibc, which other systems do not have.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = [setting for name, setting in MALLOPT_SETTINGS.items() if name not in os.environ]
    return all(mallopt(number, value) == 1 for number, value in wanted)


def detached() -> dict[str, Any]:
    """Arguments of `subprocess.Popen` with which a worker outlives its parent and does not get its Ctrl-C."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def lower_priority(niceness: int) -> None:
    """Let other processes go first; 0 leaves the priority as it is."""
    if niceness == 0:
        return
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    process.nice(max(process.nice(), niceness))
    with contextlib.suppress(OSError):  # not on this system, or not allowed here: the training runs all the same
        AUTOGROUP.write_text(str(niceness))
