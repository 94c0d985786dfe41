"""The worker: one process, one attempt at one job. `python -m octa_backend.service.worker` reads its order from stdin.

It owns its attempt: it writes its own rows and publishes its own model, whether or not a server is there to watch.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from octa_backend.errors import OctaError
from octa_backend.service import attempt_service
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.log_tail import last_lines
from octa_backend.service.process import ProcessMark, lower_priority
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.tables import JobState

CANCEL_CHECK_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Pulse:
    """A thread that shows that the worker lives, and listens for a cancel request."""

    def __init__(self, database: Database, order: WorkerOrder) -> None:
        self._database = database
        self._order = order
        self._closing = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def should_stop(self) -> bool:
        """Whether the user asked the job to stop, or the attempt was taken away."""
        return self._stop.is_set()

    def _beat(self) -> None:
        rounds = max(1, round(self._order.heartbeat_seconds / CANCEL_CHECK_SECONDS))
        pause = self._order.heartbeat_seconds / rounds
        count = 0
        while not self._closing.wait(pause):
            count += 1
            try:
                self._look(beat=count % rounds == 0)
            except SQLAlchemyError:  # a database that is busy for a moment must not end the training
                _log.exception("the heartbeat could not be written; it is tried again")

    def _look(self, *, beat: bool) -> None:
        if beat:
            with self._database.writing() as session:
                if not attempt_service.beat(session, self._order.attempt_id):
                    self._stop.set()
        with self._database.reading() as session:
            if attempt_service.cancel_requested(session, self._order.job_id):
                self._stop.set()


def work(order: WorkerOrder) -> int:
    """Do one attempt; return the process's exit code. The job's border: whatever goes wrong inside ends here."""
    with closing(Database(order.database_url)) as database:
        with database.writing() as session:
            if not attempt_service.beat(session, order.attempt_id):
                _log.warning("attempt %s is over before it began", order.attempt_id)
                return 0
            attempt_service.record_process(session, order.attempt_id, ProcessMark.of_self())
        lower_priority(order.niceness)
        return _train(order, Files(Path(order.data_dir)), database)


def _train(order: WorkerOrder, files: Files, database: Database) -> int:
    try:
        with Pulse(database, order) as pulse:
            # Importing torch takes seconds; the pulse beats already.
            from octa_backend.service.training_run import run_training  # noqa: PLC0415

            run_training(order, files, database, pulse.should_stop)
    except OctaError as error:
        _log.error("%s %s", error.title(), error.message)
        _fail(database, files, order, error.message)
        return 1
    except Exception as error:  # noqa: BLE001 - the job's border: the user reads it, the log holds the traceback
        _log.exception("the training broke off")
        _fail(database, files, order, f"{type(error).__name__}: {error}")
        return 1
    return 0


def _fail(database: Database, files: Files, order: WorkerOrder, message: str) -> None:
    tail = last_lines(files.job_log(order.job_id))
    with database.writing() as session:
        job = attempt_service.end(session, order.attempt_id, message)
        if job is not None:
            job.error, job.log_tail = message, tail
            job.move_to(JobState.FAILED)


def main() -> None:
    """Read the order, work, and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    order = WorkerOrder.model_validate_json(sys.stdin.readline())
    sys.exit(work(order))


if __name__ == "__main__":
    main()
