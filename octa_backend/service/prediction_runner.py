"""The thread of the API process that works on prediction jobs, scan by scan, when no request waits for an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from octa_backend.data.archive import Archive
from octa_backend.errors import ModelNotFound, OctaError, ScanDoesNotFit, ScanTooLarge, UnreadableScan
from octa_backend.service import prediction_history, prediction_job_service
from octa_backend.service.job_scans import Cases, JobScans, Pictures
from octa_backend.service.predict_service import PredictService
from octa_backend.service.prediction_history import Scanned
from octa_backend.service.prediction_job_service import OPTIONS
from octa_backend.service.round_thread import RoundThread
from octa_backend.service.volume_prediction import channels_of
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, remove
from octa_backend.storage.prediction_tables import PredictionFailure, PredictionJob
from octa_backend.storage.tables import JobState, Model

PAUSE_SECONDS = 2.0  # after the database did not answer
MOST_ENDS = 2
"""A scan over which so many servers have ended is not begun again: it is most likely what ends them."""

OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)

_log = logging.getLogger(__name__)


class PredictionRunner(RoundThread):
    """Works on prediction jobs one after the other, the oldest first, until it is closed.

    How far a job is stands in its row, written in one transaction with each scan's outcome. So the next server goes on
    with the scan at which this one was killed, and no scan is reported twice. That a scan is begun is written down
    before: one that takes all memory, and the server with it, does not do so for ever.
    """

    def __init__(self, settings: Settings, files: Files, database: Database, predictions: PredictService) -> None:
        super().__init__("prediction-jobs")
        self._settings = settings
        self._files = files
        self._database = database
        self._predictions = predictions
        self._begun: tuple[str, int] | None = None

    def close(self) -> None:
        """End after the present scan. Who cannot wait for that and kills the server does so on purpose: not counted."""
        self._closing.set()
        try:
            self._forgive()
        except SQLAlchemyError:
            _log.exception("the scan that is being predicted counts as one that ended the server, if it is killed now")
        super().close()

    def _round(self) -> float | None:
        try:
            while not self._closing.is_set() and self.work():
                pass
        except SQLAlchemyError:  # a busy database or a full disk must not end it
            _log.exception("the database did not answer a prediction job; it is tried again")
            return PAUSE_SECONDS
        return None

    def work(self) -> bool:
        """Take the oldest job that is not over and work on it; False where there is none."""
        job = self._claim()
        if job is None:
            return False
        try:
            self._predict(job)
        except SQLAlchemyError:
            raise
        except OctaError as error:
            self._end(job.id, JobState.FAILED, error.message)
        except Exception as error:  # noqa: BLE001 - the job's border: the user reads it, the log holds the traceback
            _log.error("prediction job %s failed", job.id, exc_info=error)
            self._end(job.id, JobState.FAILED, f"{type(error).__name__}: {error}")
        return True

    def _claim(self) -> PredictionJob | None:
        """The oldest job that is not over: a running one is what an earlier server left."""
        oldest = select(PredictionJob).where(PredictionJob.state.in_(OPEN_STATES))
        oldest = oldest.order_by(PredictionJob.created_at, PredictionJob.id).limit(1)
        with self._database.reading() as session:
            if session.scalars(oldest).one_or_none() is None:
                return None
        with self._database.writing() as session:
            job = session.scalars(oldest).one_or_none()
            if job is not None and job.state == JobState.QUEUED:
                job.move_to(JobState.RUNNING)
            return job

    def _predict(self, job: PredictionJob) -> None:
        """Predict the scans that are missing."""
        self._predictions.together(self._models_of(job))  # a model that cannot be loaded is no scan's fault
        with prediction_job_service.opened_scans(self._files.prediction_job(job.id), self._settings) as archive:
            scans = self._scans(job, archive)
            going_on = not job.cancel_requested
            for position, name in list(enumerate(scans.names))[job.processed :]:
                if not going_on or self._closing.is_set():
                    break
                start = time.monotonic()
                self._predictions.queue.give_way()
                found = self._begin(job.id, position) or self._outcome(job, self._models_of(job), scans, position)
                going_on = self._record(job.id, position, name, found, time.monotonic() - start)
        self._conclude(job.id)

    def _begin(self, job_id: str, position: int) -> str | None:
        """Write down that this server begins with a scan, once; or say why not, where others have ended over it."""
        if self._begun == (job_id, position):
            return None
        with self._database.writing() as session:
            job = session.get_one(PredictionJob, job_id)
            if job.begun >= MOST_ENDS:
                return (
                    f"the server ended {job.begun} times while it computed this scan, most likely because the machine "
                    "ran out of memory; it is not tried again"
                )
            job.begun += 1
        self._begun = job_id, position
        return None

    def _forgive(self) -> None:
        """Take back that this server has begun with a scan, where that is not over yet."""
        begun = self._begun
        if begun is None:
            return
        with self._database.writing() as session:
            job = session.get(PredictionJob, begun[0])
            if job is not None and job.processed == begun[1] and job.begun > 0:
                job.begun -= 1

    def _models_of(self, job: PredictionJob) -> list[str]:
        """The job's models, asked for anew before each scan: somebody may delete one meanwhile."""
        model_ids = job.model_id.split(",")
        with self._database.reading() as session:
            for model_id in model_ids:
                if session.get(Model, model_id) is None:
                    raise ModelNotFound(f"model {model_id} was deleted before all scans were predicted")
        return model_ids

    def _scans(self, job: PredictionJob, archive: Archive) -> JobScans:
        if job.spatial_dims == 2:
            return Pictures(archive, self._predictions, self._settings)
        with self._database.reading() as session:
            channels = channels_of([session.get_one(Model, one) for one in self._models_of(job)])
        return Cases(archive, self._predictions, self._settings, channels, job.name)

    def _outcome(self, job: PredictionJob, model_ids: Sequence[str], scans: JobScans, position: int) -> Scanned | str:
        """A scan's prediction, or why there is none."""
        try:
            return scans.predict(position, model_ids, OPTIONS.validate_python(job.options))
        except (UnreadableScan, ScanTooLarge, ScanDoesNotFit) as error:
            return error.message
        except (MemoryError, RuntimeError) as error:  # torch's word for too little memory is a RuntimeError
            _log.exception("prediction job %s: %s could not be computed", job.id, scans.names[position])
            return f"it could not be computed: {str(error) or type(error).__name__}"

    def _record(self, job_id: str, position: int, name: str, found: Scanned | str, seconds: float) -> bool:
        """Write what came of a scan, files before rows; False where the job shall not go on."""
        if isinstance(found, Scanned):
            prediction_history.write(self._files, found)
        try:
            with self._database.writing() as session:
                job = session.get_one(PredictionJob, job_id)
                if isinstance(found, Scanned):
                    session.add(prediction_history.row_of(found, job_id, position))
                else:
                    failure = PredictionFailure(prediction_job_id=job_id, position=position, file=name, reason=found)
                    session.add(failure)
                    job.failed += 1
                job.processed, job.begun = position + 1, 0
                job.busy_seconds += seconds
                return not job.cancel_requested
        except BaseException:
            if isinstance(found, Scanned):
                prediction_history.discard(self._files, [found.prediction_id])
            raise

    def _conclude(self, job_id: str) -> None:
        """End a job whose scans are done, or that shall stop; one that waits for the next server goes on."""
        with self._database.reading() as session:
            job = prediction_job_service.get(session, job_id)
            first = prediction_job_service.failures(session, job_id, 1)
        if job.processed < job.total:
            if job.cancel_requested:
                self._end(job_id, JobState.CANCELLED)
        elif job.failed < job.total:
            self._end(job_id, JobState.SUCCEEDED)
        else:
            self._end(job_id, JobState.FAILED, f"none of {job.total} scans could be predicted; {first[0].reason}")

    def _end(self, job_id: str, state: JobState, error: str | None = None) -> None:
        """Move a job to its end; its scans are not needed any more."""
        with self._database.writing() as session:
            job = session.get_one(PredictionJob, job_id)
            job.error = error
            job.move_to(state)
        try:
            remove(self._files.prediction_job(job_id) / prediction_job_service.SOURCE_FILE)
        except OSError as problem:
            _log.warning("prediction job %s: its scans could not be removed: %s", job_id, problem)
        _log.info("prediction job %s has %s", job_id, state)
