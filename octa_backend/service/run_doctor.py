"""The training doctor at work: a run's rows as a history, judged after each epoch and on request. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sqlalchemy.orm import Session

from octa_backend.diagnosis.config_remedies import is_automatic
from octa_backend.diagnosis.doctor import Diagnosis, examine_run
from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.letter import write_letter
from octa_backend.diagnosis.run_history import EpochRecord, EpochSignals, RunFacts, RunHistory, StartChecks
from octa_backend.diagnosis.text import Language
from octa_backend.errors import NoDiagnosisYet
from octa_backend.service import finding_store, train_service
from octa_backend.service.epoch_history import stored_history
from octa_backend.service.run_start import start_of
from octa_backend.storage.tables import Dataset, Job
from octa_backend.training.events import EpochFinished, Event, FindingNoticed, RunTreated, StartChecked
from octa_backend.training.treatment import DIVERGED, TREATED, Treatment, begun_after

_SIGNALS = frozenset(field.name for field in fields(EpochSignals))
_NUMBERS = tuple(field.name for field in fields(EpochRecord) if field.name != "signals")

NOT_TRIED = frozenset({"lr", "epochs", "augmentation", "augmentation_overrides"})
"""Fields that the trials before the first step do not depend on; the doctor holds another rate against theirs."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A run and what the doctor says of it."""

    job: Job
    history: RunHistory
    diagnosis: Diagnosis

    def letter(self, language: Language) -> str:
        """The whole story in Markdown."""
        return write_letter(self.history, self.diagnosis, self.job.id, language)


def examine_job(session: Session, job_id: str) -> Examined:
    """Judge a job by its stored epochs.

    Raises:
        JobNotFound: no job has this id.
        NoDiagnosisYet: no worker has planned it yet, or the plan is one of an earlier version.
    """
    job = train_service.get(session, job_id)
    if job.plan is None or not job.plan.get("fingerprint"):
        raise NoDiagnosisYet(f"job {job_id} is {job.state} and has no plan to judge it by; ask again once it runs")
    dataset = session.get_one(Dataset, job.file_id)
    found = [finding_store.from_row(row) for row in dataset.findings]
    records = since_treatment(job.plan, map(record_of, stored_history(session, job_id)))
    noticed = (row.finding for row in train_service.findings(session, job_id))
    diverged = divergence_in(noticed, finished=records[-1].epoch if records else 0)
    start = start_since(job.plan, start_of(job.start_checks))
    facts = facts_with(job.plan, found, dataset.scans)
    history = RunHistory(facts, records, job.planned("epochs") or 0, start, *diverged)
    return Examined(job, history, examine_run(history))


def severities_of(findings: Iterable[Finding]) -> dict[str, str]:
    """The gravest severity of each code."""
    rank = list(Severity)
    found: dict[str, str] = {}
    for finding in sorted(findings, key=lambda one: rank.index(one.severity), reverse=True):
        found[finding.code] = finding.severity.value
    return found


def shares_of(findings: Iterable[Finding], scans: int) -> dict[str, float]:
    """The share of a dataset's scans that each code is about, 0..1; of findings that count none it is not known."""
    counts = {finding.code: finding.evidence["count"] for finding in findings if "count" in finding.evidence}
    return {code: min(1.0, count / max(1, scans)) for code, count in counts.items()}


def facts_with(plan: Mapping[str, Any], findings: Sequence[Finding], scans: int) -> RunFacts:
    """What a stored plan says of a run, and the checks of its dataset, which has so many scans."""
    return facts_of(plan, severities_of(findings), shares_of(findings, scans))


def facts_of(
    plan: Mapping[str, Any], data_findings: Mapping[str, str], data_shares: Mapping[str, float] | None = None
) -> RunFacts:
    """What a stored plan (JSON, with fingerprint and estimate) says of a run."""
    facts, config = plan["fingerprint"], plan["config"]
    per_step = config["batch_size"] * config["accumulation_steps"]
    return RunFacts(
        config=config,
        train_scans=facts["training_scans"],
        val_scans=facts["validation_scans"],
        patients=None,
        parameters=plan["estimate"]["parameters"],
        classes=plan["classes"],
        foreground_fraction=facts["foreground_fraction"],
        steps_per_epoch=-(-facts["training_scans"] * plan["patches_per_scan"] // per_step),
        data_findings=data_findings,
        data_shares=data_shares or {},
    )


def record_of(report: Mapping[str, Any]) -> EpochRecord:
    """An epoch's report (fields of `EpochFinished`) as the doctor reads it."""
    kept = report.get("signals")
    signals = EpochSignals(**{name: kept[name] for name in kept.keys() & _SIGNALS}) if kept else None
    return EpochRecord(**{name: report[name] for name in _NUMBERS}, signals=signals)


def since_treatment(plan: Mapping[str, Any], records: Iterable[EpochRecord]) -> tuple[EpochRecord, ...]:
    """The epochs since the last treatment that began the schedule anew: those before it were another run's."""
    begun = begun_after(map(Treatment.model_validate, plan.get("treatments", ())))
    return tuple(record for record in records if record.epoch > begun)


def start_since(plan: Mapping[str, Any], start: StartChecks) -> StartChecks:
    """What was tried before the first step, as far as it holds: a treatment of what it depends on made another run."""
    changed = {name for treatment in plan.get("treatments", ()) for name in treatment["changes"]}
    return start if changed <= NOT_TRIED else StartChecks()


def divergence_in(
    findings: Iterable[Mapping[str, Any]], finished: int = 0
) -> tuple[tuple[str, int] | None, float | None]:
    """What ended a run that was not finite any more, and in which epoch; and at which learning rate.

    Args:
        findings: of the job, in order; the last of them that tells of such an end counts, unless it was treated since.
        finished: the last finished epoch. An end in it or before it is past: the run was resumed, and got beyond it.
    """
    found: Mapping[str, Any] | None = None
    for finding in findings:
        if finding["code"] == DIVERGED:
            found = finding["evidence"]
        elif finding["code"] in TREATED:
            found = None
    if found is None or found["epoch"] <= finished:
        return None, None
    return (found["what"], found["epoch"]), found.get("lr")


class Watched:
    """An `emit` that has every epoch judged: its `plateau` is filled in, and what the doctor suspects is told.

    A suspicion is told once, when two epochs in a row raise it; an error, and what needs no epoch, at once.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        facts: RunFacts,
        epochs: int,
        earlier: Iterable[EpochRecord] = (),
        told: Iterable[str] = (),
        start: StartChecks | None = None,
    ) -> None:
        """Begin to watch.

        Args:
            emit: is told of everything.
            facts: of the run.
            epochs: the last one it is to have.
            earlier: epochs of earlier attempts, see `since_treatment`.
            told: codes of findings that they told.
            start: what they tried before the first step.
        """
        self._emit, self._facts, self._epochs = emit, facts, epochs
        self._records = tuple(earlier)
        self._told = set(told)
        self._start = start or StartChecks()
        self._suspected = set[str]()
        self._sure: Finding | None = None

    def __call__(self, event: Event) -> None:
        """Pass an event on, an epoch with what the doctor says of it."""
        if isinstance(event, EpochFinished):
            self._judge(event)
            return
        self._emit(event)
        match event:
            case StartChecked(checks):
                self._start = checks
                self._tell(suspected(self._examine()))
            case FindingNoticed(finding) if finding.code == DIVERGED:
                self._sure = self._examine((finding.evidence["what"], finding.evidence["epoch"])).verdict
            case RunTreated():
                self._begin_anew(event)

    def advise(self) -> Finding | None:
        """The verdict, where it is sure enough for its remedy to be applied unasked."""
        return self._sure if self._sure is not None and is_automatic(self._sure) else None

    def _begin_anew(self, event: RunTreated) -> None:
        self._facts = facts_of(event.plan, self._facts.data_findings, self._facts.data_shares)
        self._epochs = event.plan["config"]["epochs"]
        kept = (record for record in self._records if record.epoch <= event.after)
        self._records = since_treatment(event.plan, kept)
        self._start = start_since(event.plan, self._start)
        self._suspected, self._sure = set(), None

    def _judge(self, event: EpochFinished) -> None:
        before = tuple(record for record in self._records if record.epoch < event.epoch)
        self._records = (*before, record_of(asdict(event)))
        found = self._examine()
        self._emit(replace(event, plateau=dict(found.plateau) if found.plateau else None))
        raised = suspected(found)
        sure = [one for one in raised if one.severity is Severity.ERROR or one.code in self._suspected]
        self._tell(sure)
        self._suspected = {finding.code for finding in raised}
        self._sure = found.verdict if found.verdict in sure else None

    def _examine(self, non_finite: tuple[str, int] | None = None) -> Diagnosis:
        return examine_run(RunHistory(self._facts, self._records, self._epochs, self._start, non_finite))

    def _tell(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.code not in self._told:
                self._told.add(finding.code)
                self._emit(FindingNoticed(finding))


def suspected(found: Diagnosis) -> list[Finding]:
    """The findings that ask for something."""
    return [finding for finding in found.findings if finding.severity is not Severity.INFO]
