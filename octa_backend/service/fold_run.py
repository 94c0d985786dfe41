"""One attempt at the end of a cross-validation: from its finished folds to the published ensemble. Imports torch."""

from __future__ import annotations

import logging

from octa_backend.data.store import DatasetStore
from octa_backend.errors import ModelNotFound
from octa_backend.service import attempt_service, fold_service, model_service
from octa_backend.service.experiment import Source
from octa_backend.service.fold_conclusion import Conclusion, Member
from octa_backend.service.job_report import Interrupted, unless
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.report_service import read_report
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Dataset, Job, JobState
from octa_backend.training.evaluation import ShouldStop

_log = logging.getLogger(__name__)


def conclude(order: WorkerOrder, files: Files, database: Database, should_stop: ShouldStop) -> None:
    """Make the ensemble and the report, and close the attempt.

    Raises:
        ModelNotFound: a fold's model was deleted.
    """
    conclusion = _prepare(order, files, database)
    try:
        card = conclusion.make(unless(should_stop))
    except Interrupted:
        card = None
    with database.writing() as session:
        job = attempt_service.end(session, order.attempt_id, "finished" if card else "cancelled")
        if job is None:
            _log.warning("another process works on this job now; this one leaves it alone")
            return
        if card is not None:
            job.model_id = model_service.register(session, conclusion.name, job, card).id
            job.test = card["test"]
        job.move_to(JobState.SUCCEEDED if card else JobState.CANCELLED)
    _log.info("the cross-validation %s; model %s", job.state, job.model_id)


def _prepare(order: WorkerOrder, files: Files, database: Database) -> Conclusion:
    with database.reading() as session:
        job = session.get_one(Job, order.job_id)
        dataset = session.get_one(Dataset, job.file_id)
        folds = fold_service.folds_of(session, job.id)
    return Conclusion(
        store=DatasetStore(files.dataset(dataset.id)),
        source=Source(dataset.id, dataset.name, dataset.sha256),
        members=[_member(fold, files) for fold in folds],
        models=files.models,
        prefix=f"{job.id}-ensemble-",
        reports=files.job(job.id),
        device=order.device,
    )


def _member(fold: Job, files: Files) -> Member:
    """What a fold that has succeeded brings into the ensemble.

    Raises:
        ModelNotFound: its model was deleted.
    """
    assert fold.fold is not None
    if fold.model_id is None:
        raise ModelNotFound(
            f"the model of fold {fold.fold} was deleted before the ensemble was made; resume job {fold.parent_job_id}, "
            "and the fold publishes it again"
        )
    report = read_report(files.job(fold.id))
    assert report is not None, "a fold that has succeeded has a report"
    return Member(fold.fold, files.model(fold.model_id), report)
