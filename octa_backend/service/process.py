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
"""A start time that counts from 1970 shifts when the system's clock is set."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name of the time since it was started."""

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
    """Which process is meant: ids are used again after a while, so its start counts too.

    Attributes:
        pid: its id.
        started: when it was started, in seconds; since the boot where one is named, else since 1970.
        boot: Linux's name of that boot. None on other systems, and of a mark that an earlier version wrote.
    """

    pid: int
    started: float
    boot: str | None = None

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """The mark of a process that runs now."""
        boot = _this_boot()
        return cls(pid, psutil.Process(pid).create_time() if boot is None else _seconds_after_boot(pid), boot)

    @classmethod
    def of_self(cls) -> ProcessMark:
        """The mark of this process."""
        return cls.of(os.getpid())

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            return process if self._means(process) and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return None

    def _means(self, process: psutil.Process) -> bool:
        if self.boot is None:
            return abs(process.create_time() - self.started) < CLOCK_TOLERANCE_SECONDS
        return self.boot == _this_boot() and self.started == _seconds_after_boot(self.pid)

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


def _this_boot() -> str | None:
    """Which boot this is; None where the system does not tell."""
    try:
        return BOOT_ID.read_text("ascii").strip() if sys.platform == "linux" else None
    except OSError:
        return None


def _seconds_after_boot(pid: int) -> float:
    """When a process was started, by Linux's own count, which stays the same when the clock is set.

    Source:
        proc_pid_stat(5): `starttime` is the 22nd field; the second, in brackets, may hold anything.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


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
