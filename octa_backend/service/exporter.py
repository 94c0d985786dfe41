"""Makes exports of models, one at a time, each in a process of its own. Imports neither torch nor OpenVINO."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

from octa_backend.errors import ExportFailed
from octa_backend.inference.export_record import ExportFormat, ExportRecord, find_export, find_failure, note_failure
from octa_backend.service.process import KILL_WAIT_SECONDS, detached

EXPORT_SECONDS = 900.0
"""An export that takes longer is given up for good; most networks take under a minute on two idle cores."""

_log = logging.getLogger(__name__)


class Exporter:
    """Runs the processes that export. Safe to use from several threads.

    Args:
        niceness: how much such a process yields to others, 0 to 19.
    """

    def __init__(self, niceness: int = 0) -> None:
        self._niceness = niceness
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._model: Path | None = None
        self._stopped = self._closed = False

    def ensure(self, model: Path, wanted: ExportFormat) -> ExportRecord:
        """The export of a model with weights, made where it is not there; waits for its turn and for its end.

        Raises:
            ExportFailed: the model cannot be exported so; the reason is kept and not looked for again.
        """
        with self._turn:
            record = find_export(model, wanted)
            if record is not None:
                return record
            if (reason := find_failure(model, wanted)) is not None:
                raise ExportFailed(reason)
            return self._make(model.absolute(), wanted)

    def stop(self, model: Path) -> None:
        """End the process that exports this model; it is gone when this returns."""
        with self._state:
            if self._model == model.absolute():
                self._kill()

    def close(self) -> None:
        """End the process that runs, and start no other."""
        with self._state:
            self._closed = True
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._stopped = True
            self._process.kill()
            self._process.wait(KILL_WAIT_SECONDS)

    def _make(self, model: Path, wanted: ExportFormat) -> ExportRecord:
        arguments = [str(model), wanted, str(self._niceness)]
        with self._state:
            if self._closed:
                raise ExportFailed(f"the server ends; {model.name} was not exported")
            self._stopped, self._model = False, model
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "octa_backend.service.export_child", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                **detached(),
            )
        said, in_time = _last_words(self._process)
        with self._state:
            code, self._process = self._process.returncode, None
        if code == 0 and (record := find_export(model, wanted)) is not None:
            return record
        if self._stopped or (code < 0 and in_time):
            raise ExportFailed(f"the export of {model.name} as {wanted} was ended (exit code {code}); ask again")
        raise ExportFailed(_note(model, wanted, said, code))


def _last_words(process: subprocess.Popen[str]) -> tuple[str, bool]:
    """What a process wrote to its standard error, and whether it ended in time; it is killed where it did not."""
    try:
        return process.communicate(timeout=EXPORT_SECONDS)[1], True
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
        return f"{said}\nthe export took longer than {EXPORT_SECONDS:.0f} s", False


def _note(model: Path, wanted: ExportFormat, said: str, code: int) -> str:
    """Log why an export failed, keep the last line of it, and return that."""
    _log.warning("model %s cannot be exported as %s:\n%s", model.name, wanted, said.strip())
    reason = said.strip().rpartition("\n")[2] or f"the export ended with code {code}"
    note_failure(model, wanted, reason)
    return reason
