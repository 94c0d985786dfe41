"""What the doctor says of a recorded run, epoch by epoch, and whether it is right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from measuring import Numbers, Record
from planted_training import CASES, Case
from pydantic import TypeAdapter

from octa_backend.diagnosis.doctor import Diagnosis, RunState, examine_run
from octa_backend.diagnosis.findings import Remedy, Severity
from octa_backend.diagnosis.run_history import RunHistory

HURTS = 0.02
"""Dice that a fault must cost, against the clean run with the same seed, to count as there. Clean runs that differ in
their seed alone are further apart; those of one seed are equal."""

HISTORY = TypeAdapter(RunHistory)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was said of a run.

    Attributes:
        told: code -> the epoch in which it was first told, 0 before the first one.
        first: code of the first verdict that was a fault and was told; else None.
        verdict: code of the last verdict, where that is a fault; else None.
        remedy: of that verdict; where the run ended without a fault, of the first one.
        epochs: how many the run was to have.
        val_dice: the best Dice on the run's own validation scans, as the user sees it.
    """

    told: Mapping[str, int]
    first: str | None
    verdict: str | None
    remedy: Remedy | None
    epochs: int
    val_dice: float


def judge(history: RunHistory) -> Judgement:
    """Look at a run after each epoch, as the product does while it trains.

    A finding is told when two looks in a row raise it, an error at once, see `service.run_doctor.Watched`. The first
    look is at what the start checks found. A run whose numbers ceased to be finite is looked at once more.
    """
    told: dict[str, int] = {}
    before: set[str] = set()
    found = first = first_remedy = None
    for epoch, seen in _looks(history):
        found = examine_run(seen)
        suspected = {one.code: one for one in found.findings if one.severity is not Severity.INFO}
        for code, finding in suspected.items():
            if finding.severity is Severity.ERROR or code in before:
                told.setdefault(code, epoch)
        if first is None and is_fault(found) and found.verdict.code in told:
            first, first_remedy = found.verdict.code, found.verdict.remedy
        before = set(suspected)
    assert found is not None, "there is a look before the first epoch"
    at_fault = is_fault(found)
    return Judgement(
        told=told,
        first=first,
        verdict=found.verdict.code if at_fault else None,
        remedy=found.verdict.remedy if at_fault else first_remedy,
        epochs=history.epochs_planned,
        val_dice=max((epoch.val_dice for epoch in history.epochs), default=0.0),
    )


def _looks(history: RunHistory) -> Iterable[tuple[int, RunHistory]]:
    for count in range(len(history.epochs) + 1):
        yield count, replace(history, epochs=history.epochs[:count], non_finite=None)
    if history.non_finite is not None:
        yield history.non_finite[1], history


def is_fault(found: Diagnosis) -> bool:
    return found.state in (RunState.FAULT, RunState.STUCK_UNEXPLAINED)


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run with what was said of it.

    Attributes:
        dice: of its best weights on sound validation scans.
        findings: what the checks of the data said, errors and warnings.
        diverged: whether it ended because a number was not finite.
    """

    job: Numbers
    judgement: Judgement
    dice: float
    findings: tuple[str, ...]
    diverged: bool

    @property
    def case(self) -> Case:
        return CASES[self.job["case"]]

    @property
    def seed(self) -> int:
        return int(self.job["seed"])

    @property
    def named(self) -> list[str]:
        """The codes that were told and are right, in no order."""
        return [code for code in self.judgement.told if code in self.case.right]

    @property
    def named_first(self) -> bool:
        """Whether the first verdict that was told is right."""
        return self.judgement.first in self.case.right

    @property
    def named_in(self) -> int | None:
        """The first epoch in which something right was told."""
        return min((self.judgement.told[code] for code in self.named), default=None)


class Runs:
    """Recorded runs, to be looked up by their job."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._by_job = {_key(run.job): run for run in runs}

    def add(self, run: Run) -> None:
        self._by_job[_key(run.job)] = run

    def find(self, job: Numbers) -> Run | None:
        return self._by_job.get(_key(job))

    def untreated(self) -> list[Run]:
        """Those to which no remedy was applied."""
        return [run for run in self._by_job.values() if not run.job["remedies"]]

    def clean_of(self, run: Run) -> Run | None:
        """The run without the fault, on the same scans with the same seed."""
        return self.find({**run.job, "case": run.case.clean, "remedies": []})

    def hurts(self, run: Run) -> bool:
        """Whether a planted fault is there to be found: it ended the run, or cost Dice on the run's own scans."""
        clean = self.clean_of(run)
        return run.diverged or (clean is not None and clean.judgement.val_dice - run.judgement.val_dice > HURTS)


def _key(job: Numbers) -> str:
    return json.dumps(job, sort_keys=True)


def judged(record: Record) -> Run:
    """Have the doctor look at a recorded run."""
    history = HISTORY.validate_python(record.found["history"])
    severities = history.facts.data_findings
    return Run(
        job=record.job,
        judgement=judge(history),
        dice=record.found["dice"],
        findings=tuple(code for code, severity in severities.items() if severity != Severity.INFO),
        diverged=history.non_finite is not None,
    )
