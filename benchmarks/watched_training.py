"""Trains with the training doctor beside it, as the product does, and keeps the history that holds at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from octa_backend.diagnosis.run_history import EpochRecord, RunHistory, StartChecks
from octa_backend.errors import TrainingDiverged
from octa_backend.service.run_doctor import Watched, facts_of, record_of, since_treatment, start_since
from octa_backend.training import trainer
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.events import EpochFinished, Event, FindingNoticed, RunTreated
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.plan import Plan
from octa_backend.training.treatment import DIVERGED


class Recorder:
    """An `emit` that keeps what the doctor reads: of a run that was treated, what came since."""

    def __init__(self, told: Plan, data_findings: Mapping[str, str], start: StartChecks) -> None:
        """Begin.

        Args:
            told: the plan as the doctor is told it.
            data_findings: code -> gravest severity, of the scans.
            start: what was tried before the first step.
        """
        self._plan: Mapping[str, Any] = told.model_dump(mode="json")
        self._precision = told.config.precision
        self._data_findings, self._start = data_findings, start
        self._records: tuple[EpochRecord, ...] = ()
        self._non_finite: tuple[str, int] | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case EpochFinished():
                self._records = (*self._records, record_of(asdict(event)))
            case FindingNoticed(finding) if finding.code == DIVERGED:
                self._non_finite = finding.evidence["what"], finding.evidence["epoch"]
            case RunTreated(after=after, plan=plan):
                self._plan = {**plan, "config": {**plan["config"], "precision": self._precision}}
                kept = (record for record in self._records if record.epoch <= after)
                self._records = since_treatment(self._plan, kept)
                self._start, self._non_finite = start_since(self._plan, self._start), None

    @property
    def treatments(self) -> list[str]:
        """Codes of the remedies that the run took by itself, and of its goings back."""
        return [treatment["remedy"] for treatment in self._plan["treatments"]]

    def history(self) -> RunHistory:
        """What holds now."""
        facts = facts_of(self._plan, self._data_findings)
        return RunHistory(facts, self._records, self._plan["config"]["epochs"], self._start, self._non_finite)


def train_watched(
    data: TrainingData,
    plan: Plan,
    recorder: Recorder,
    checkpoints: Checkpoints,
    initial: InitialWeights | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train; the history ends where a number is not finite any more, and going back did not help.

    Args:
        data: the scans.
        plan: what is computed, with `auto_heal` or without.
        recorder: is told of all.
        checkpoints: keep the best epoch.
        initial: weights to begin with.
        should_stop: asked between batches.
    """
    begun = recorder.history()
    watched = Watched(recorder, begun.facts, begun.epochs_planned, start=begun.start)
    advise = watched.advise if plan.config.auto_heal else None
    try:
        trainer.fit(
            data,
            plan,
            checkpoints=checkpoints,
            emit=watched,
            should_stop=should_stop,
            initial=initial,
            advise=advise,
        )
    except TrainingDiverged:
        assert recorder.history().non_finite is not None
