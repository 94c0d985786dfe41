"""The supervisor: a thread of the API process that starts attempts, and notices the ones that died."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psutil
from sqlalchemy.exc import SQLAlchemyError

from octa_backend.errors import OctaError
from octa_backend.service import attempt_service, fold_service
from octa_backend.service.launcher import Launcher, WorkerOrder
from octa_backend.service.log_tail import last_lines
from octa_backend.service.process import ProcessMark
from octa_backend.service.round_thread import RoundThread
from octa_backend.service.silence import Silence
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Attempt

TICK_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""A worker that is silent for so long is taken for dead: its process stands still, or was never started."""

CANCEL_PATIENCE_SECONDS = 300.0
"""A worker that goes on for so long after its job was asked to stop hangs, although its heart beats. It looks between
batches and between scans, and publishes; where one of these takes longer, another attempt publishes in its place."""

_log = logging.getLogger(__name__)


class Supervisor(RoundThread):
    """Watches over attempts until it is closed; the workers live on and are adopted by the next server."""

    def __init__(
        self,
        settings: Settings,
        files: Files,
        database: Database,
        launcher: Launcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("supervisor")
        self._settings = settings
        self._files = files
        self._database = database
        self._launcher = launcher
        self._silence, self._cancels = Silence(clock), Silence(clock)
        self._started: set[ProcessMark] = set()

    def _round(self) -> float:
        try:
            self.tick()
        except (SQLAlchemyError, OSError, psutil.Error):  # a full disk or a process that will not die must not end it
            _log.exception("the supervisor's round failed; it is tried again")
        return TICK_SECONDS

    def tick(self) -> None:
        """One round: close the attempts that died, bring cross-validations up to date, start what waits."""
        with self._database.reading() as session:
            attempts = attempt_service.open_attempts(session)
            asked = attempt_service.asked_to_stop(session)
        silent = self._silence.look({attempt.id: attempt.heartbeat_at for attempt in attempts})
        waited = self._cancels.look(dict.fromkeys(asked, True))
        for attempt in attempts:
            ending = self._why_dead(attempt, silent[attempt.id], waited.get(attempt.id, 0.0))
            if ending is not None:
                self._close(attempt, ending)
        self._settle()
        while not self._closing.is_set() and self._start_next():
            pass
        # Asking collects the ones that ended by themselves; they would else stay as zombies.
        self._started = {mark for mark in self._started if self._launcher.is_alive(mark)}

    def _why_dead(self, attempt: Attempt, silent_seconds: float, cancel_seconds: float) -> str | None:
        """Why an attempt is over, in words, or None while it lives."""
        mark = attempt_service.mark_of(attempt)
        patience = max(PATIENCE_SECONDS, 10 * self._settings.heartbeat_seconds)
        if mark is None:
            return "the worker process never started" if silent_seconds > patience else None
        if not self._launcher.is_alive(mark):
            return explain_exit(self._launcher.exit_code(mark))
        if silent_seconds > patience:
            self._launcher.stop(mark)
            return f"the worker process gave no sign of life for {patience:.0f} s and was stopped"
        if cancel_seconds > CANCEL_PATIENCE_SECONDS:
            self._launcher.stop(mark)
            return f"the worker process did not end within {CANCEL_PATIENCE_SECONDS:.0f} s of a cancel and was stopped"
        return None

    def _close(self, attempt: Attempt, ending: str) -> None:
        tail = last_lines(self._files.job_log(attempt.job_id))
        with self._database.writing() as session:
            attempt_service.crashed(session, attempt.id, ending, self._settings.max_attempts, tail)
        _log.warning("job %s, attempt %d: %s", attempt.job_id, attempt.number, ending)

    def _settle(self) -> None:
        with self._database.reading() as session:
            if not fold_service.any_open(session):
                return
        with self._database.writing() as session:
            fold_service.settle_all(session)

    def _start_next(self) -> bool:
        with self._database.writing() as session:
            attempt = attempt_service.claim_next(session, self._settings.jobs_per_device)
        if attempt is None:
            return False
        try:
            mark = self._launcher.start(WorkerOrder.of(self._settings, attempt.job_id, attempt.id))
        except (OSError, OctaError) as error:
            self._close(attempt, f"the worker process could not be started: {error}")
            return False
        self._started.add(mark)
        self._record(attempt, mark)
        return True

    def _record(self, attempt: Attempt, mark: ProcessMark) -> None:
        with self._database.writing() as session:
            attempt_service.record_process(session, attempt.id, mark)
        _log.info("job %s, attempt %d: worker process %d", attempt.job_id, attempt.number, mark.pid)


def explain_exit(code: int | None) -> str:
    """Say in words how a process ended."""
    if code is None:
        return "the worker process died"
    if code == -9:
        return "the worker process was killed (signal 9), often because the machine ran out of memory"
    if code < 0:
        return f"the worker process was ended by signal {-code}"
    return f"the worker process ended with exit code {code}"
