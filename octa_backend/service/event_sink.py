"""What becomes of the trainer's events: rows in the database, written in batches, and lines in the job's log."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.diagnosis.start_words import start_lines
from octa_backend.service import attempt_service, finding_store, train_service
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.run_log import RunLog
from octa_backend.storage.database import Database
from octa_backend.storage.tables import EpochReport, GradientNorm, Job, JobFinding
from octa_backend.training.checkpoint import Best
from octa_backend.training.events import EpochFinished, Event, FindingNoticed, RunTreated, StartChecked, StepFinished

MAX_PENDING_STEPS = 200

_log = logging.getLogger(__name__)


class EventSink:
    """Takes the trainer's events. Gradient norms are kept back and written with the epoch, or every 200 steps."""

    def __init__(self, database: Database, order: WorkerOrder, epochs: int) -> None:
        self._database = database
        self._order = order
        self._run_log = RunLog(epochs, order.language)
        self._pending: list[StepFinished] = []

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case StepFinished():
                self._run_log.step(event)
                self._pending.append(event)
                if len(self._pending) >= MAX_PENDING_STEPS:
                    self.write()
            case EpochFinished():
                self.write(event)
            case FindingNoticed(finding):
                self.notice(finding)
            case RunTreated():
                self._treat(event)
            case StartChecked(checks):
                self.keep_start(checks)

    def forget_after(self, epoch: int, best: Best | None) -> None:
        """Drop what earlier attempts told of later epochs, which are computed anew, perhaps with other options.

        Args:
            epoch: the last epoch whose checkpoint is kept to go on from.
            best: the epoch whose weights are kept to be published; it may be a later one.
        """
        with self._database.writing() as session:
            self._drop_after(session, epoch)
            job = session.get_one(Job, self._order.job_id)
            job.epoch = min(job.epoch, epoch)
            job.best_epoch, job.best_val_dice = (best.epoch, best.val_dice) if best else (None, None)
            job.touch()

    def _drop_after(self, session: Session, epoch: int) -> None:
        for table in (GradientNorm, EpochReport):
            session.execute(delete(table).where(table.job_id == self._order.job_id, table.epoch > epoch))

    def notice(self, finding: Finding) -> None:
        """Record a finding."""
        with self._database.writing() as session:
            session.add(JobFinding(job_id=self._order.job_id, finding=finding_store.to_row(finding)))
            session.get_one(Job, self._order.job_id).touch()
        _log.info("finding: %s", describe(finding, "en")["message"])

    def _treat(self, event: RunTreated) -> None:
        """Store the plan that holds now, and drop what was told of later epochs; tell of it once."""
        self._pending.clear()
        self._run_log.epochs = event.plan["config"]["epochs"]
        with self._database.writing() as session:
            if not attempt_service.is_current(session, self._order.attempt_id):
                return
            self._drop_after(session, event.after)
            job = session.get_one(Job, self._order.job_id)
            job.plan, job.epoch = event.plan, event.after
            job.touch()
            told = [row.finding for row in train_service.findings(session, job.id)]
        row = finding_store.to_row(event.finding)
        if not any((one["code"], one["evidence"]) == (row["code"], row["evidence"]) for one in told):
            self.notice(event.finding)

    def keep_start(self, checks: StartChecks) -> None:
        """Store what was tried before the first step."""
        with self._database.writing() as session:
            if not attempt_service.is_current(session, self._order.attempt_id):
                return
            job = session.get_one(Job, self._order.job_id)
            job.start_checks = asdict(checks)
            job.touch()
        for line in start_lines(checks, self._order.language):
            _log.info("start check: %s", line)

    def write(self, report: EpochFinished | None = None) -> None:
        """Write what was kept back, and an epoch's report if it is not there yet."""
        with self._database.writing() as session:
            if not attempt_service.is_current(session, self._order.attempt_id):
                return
            if self._pending:
                session.execute(insert(GradientNorm), [self._gradient_row(step) for step in self._pending])
            if report is not None:
                is_new = self._is_new(session, report)
                if is_new:
                    self._add(session, report)
                self._run_log.epoch(report, is_new=is_new)
        self._pending.clear()

    def _gradient_row(self, step: StepFinished) -> dict[str, object]:
        place = {"job_id": self._order.job_id, "epoch": step.epoch, "step": step.step}
        return {**place, "loss": step.loss, "lr": step.lr, **step.gradient_norms}

    def _is_new(self, session: Session, report: EpochFinished) -> bool:
        return session.get(EpochReport, (self._order.job_id, report.epoch)) is None

    def _add(self, session: Session, report: EpochFinished) -> None:
        session.add(EpochReport(job_id=self._order.job_id, **_storable(report)))
        job = session.get_one(Job, self._order.job_id)
        job.epoch = report.epoch
        if job.best_val_dice is None or report.val_dice > job.best_val_dice:
            job.best_epoch, job.best_val_dice = report.epoch, report.val_dice
        job.touch()


def _storable(report: EpochFinished) -> dict[str, Any]:
    """An epoch's columns. SQLite takes NaN for no number, and the JSON of other databases has neither NaN nor infinity.

    The loss and the gradients of a step are always finite; a validation's loss is not, nor what weights that broke in
    the epoch's last step give.
    """
    columns = asdict(report)
    if math.isnan(report.val_loss):
        columns["val_loss"] = math.inf
    if not _is_finite(report.signals):
        columns["signals"] = None
    return columns


def _is_finite(numbers: object) -> bool:
    try:
        json.dumps(numbers, allow_nan=False)
    except ValueError:
        return False
    return True
