"""One attempt at a training, from the stored job to the published model. Runs in the worker; imports torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.errors import ModelNotFound
from octa_backend.service import attempt_service, finding_store, model_service, train_service
from octa_backend.service.epoch_history import stored_history
from octa_backend.service.event_sink import EventSink
from octa_backend.service.experiment import (
    Experiment,
    Source,
    design,
    keep_augmentation_sheet,
    make_card,
    published,
)
from octa_backend.service.fold_run import conclude
from octa_backend.service.fold_service import is_parent
from octa_backend.service.job_report import Reporting
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.pretrained import from_shelf
from octa_backend.service.run_doctor import Watched, facts_with, record_of, since_treatment, start_since
from octa_backend.service.run_start import start_of, try_start
from octa_backend.service.tensorboard_sink import fit_with_board
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Dataset, Job, JobState
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.evaluation_report import ScanResult
from octa_backend.training.healing import treated
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.plan import Plan
from octa_backend.training.trainer import Outcome

_log = logging.getLogger(__name__)


def run_training(order: WorkerOrder, files: Files, database: Database, should_stop: ShouldStop) -> None:
    """Train, score and report once, publish the best checkpoint, and close the attempt; or conclude a parent."""
    with database.reading() as session:
        job = session.get_one(Job, order.job_id)
        dataset = session.get_one(Dataset, job.file_id)
    if is_parent(job):
        conclude(order, files, database, should_stop)
        return
    config = TrainConfig.model_validate(job.config)
    earlier = Plan.model_validate(job.plan) if job.plan else None
    checkpoints = Checkpoints(files.checkpoints(job.id))
    initial = _initial_weights(files, database, config, checkpoints)
    store = DatasetStore(files.dataset(dataset.id))
    run = design(store, config, order.device, earlier, should_stop, job.fold, initial)
    run = replace(run, plan=treated(run.plan, checkpoints.treatments))
    sink = EventSink(database, order, run.plan.epochs)
    _begin(order, database, sink, run, checkpoints)
    keep_augmentation_sheet(run, files.job(job.id))
    start = start_of(job.start_checks)
    watched = _watched(database, order.job_id, run.plan, sink, start)
    try_start(run, initial, last=checkpoints.last, earlier=start, should_stop=should_stop, emit=watched)
    outcome = fit_with_board(
        run,
        files.tensorboard(job.id),
        checkpoints=checkpoints,
        emit=watched,
        should_stop=should_stop,
        initial=initial,
        advise=watched.advise if config.auto_heal else None,
    )
    sink.write()
    run = published(run, checkpoints)
    source = Source(dataset.id, dataset.name, dataset.sha256)
    tested: Sequence[ScanResult] = ()
    tuned: Mapping[str, Any] | None = None
    with database.reading() as session:
        history, findings = stored_history(session, job.id), _findings(session, job.id, dataset)
    if outcome.finished and outcome.best is not None:
        name = model_folder(files, job.id, checkpoints, outcome.best).name
        reporting = Reporting(run, source, name, outcome.best, history, files.job(job.id))
        scored = reporting.make(checkpoints, should_stop)
        outcome = replace(outcome, finished=scored is not None)
        tested, tuned = (scored.test, scored.tuned) if scored else ((), None)
    card = make_card(run, source, outcome, tested, history, findings, tuned)
    if card["test"]:
        _log.info("Test Dice: %.4f, mean over %d scans", card["test"]["dice"], card["test"]["scans"])
    _finish(order, files, database, outcome, checkpoints, card)


def model_folder(files: Files, job_id: str, checkpoints: Checkpoints, best: Best) -> Path:
    """Where a job's best checkpoint is published; its name is the model's id."""
    return model_service.folder_for(files.model(f"{job_id}-e{best.epoch}"), checkpoints.best_weights())


def _findings(session: Session, job_id: str, dataset: Dataset) -> list[Finding]:
    """What was noticed of a job's data, and of the job."""
    told = (row.finding for row in train_service.findings(session, job_id))
    return [finding_store.from_row(row) for row in (*dataset.findings, *told)]


def _watched(database: Database, job_id: str, plan: Plan, sink: EventSink, start: StartChecks) -> Watched:
    """The sink, behind the training doctor, who knows what earlier attempts told."""
    with database.reading() as session:
        job = session.get_one(Job, job_id)
        dataset = session.get_one(Dataset, job.file_id)
        found = [finding_store.from_row(row) for row in dataset.findings]
        scans = dataset.scans
        earlier = [record_of(report) for report in stored_history(session, job_id)]
        told = [row.finding["code"] for row in train_service.findings(session, job_id)]
    stored = plan.model_dump(mode="json")
    facts, start = facts_with(stored, found, scans), start_since(stored, start)
    return Watched(sink, facts, plan.epochs, since_treatment(stored, earlier), told, start)


def _initial_weights(
    files: Files, database: Database, config: TrainConfig, checkpoints: Checkpoints
) -> InitialWeights | None:
    """The weights to begin with, or to begin anew with; those of a job that goes on may be gone."""
    with database.reading() as session:
        try:
            return from_shelf(session, files, config.pretrained)
        except ModelNotFound:
            if checkpoints.last:
                return None
            raise


def _begin(order: WorkerOrder, database: Database, sink: EventSink, run: Experiment, checkpoints: Checkpoints) -> None:
    """Store the plan; drop what an earlier attempt told of epochs that are computed anew."""
    index = checkpoints.index
    last = index.last if index else 0
    with database.writing() as session:
        job = session.get_one(Job, order.job_id)
        first_time = job.plan is None
        job.plan = run.plan.model_dump(mode="json")
        job.touch()
    sink.forget_after(last, index.best if index else None)
    _log.info("%s; after epoch %d", run.describe(), last)
    if first_time:
        for reason in run.plan.reasons:
            _log.info("plan: %s = %s, because %s", reason.field, reason.value, reason.reason)
        for finding in run.findings():
            sink.notice(finding)


def _finish(
    order: WorkerOrder,
    files: Files,
    database: Database,
    outcome: Outcome,
    checkpoints: Checkpoints,
    card: dict[str, Any],
) -> None:
    """Publish the best checkpoint and move the job to its end, unless the attempt was taken away."""
    published = None
    if outcome.best is not None:
        folder = model_folder(files, order.job_id, checkpoints, outcome.best)
        published = folder.name
        card = {"model_id": published, **card}
        model_service.write_model(folder, checkpoints.best_weights(), card)
    with database.writing() as session:
        job = attempt_service.end(session, order.attempt_id, "finished" if outcome.finished else "cancelled")
        if job is None:
            _log.warning("another process works on this job now; this one leaves it alone")
            return
        if published is not None:
            kept = job.test if published == job.model_id else None  # of other weights it says nothing
            job.test = card["test"] or kept
            job.model_id = model_service.register(session, published, job, card).id
        job.move_to(JobState.SUCCEEDED if outcome.finished else JobState.CANCELLED)
    _log.info("the job %s; model %s", job.state, published)
