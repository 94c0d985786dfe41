"""A training without server and database: scans that were prepared in, a folder with checkpoints and a model out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.errors import NoModelYet
from octa_backend.service import model_service
from octa_backend.service.epoch_history import HISTORY_FILE, read_history, recorded
from octa_backend.service.experiment import Experiment, Source, keep_augmentation_sheet, make_card, published
from octa_backend.service.job_report import Reporting, Scored
from octa_backend.service.local_folder import PLAN_FILE, checkpoints_of
from octa_backend.service.run_doctor import Watched, facts_with, record_of, since_treatment, start_since
from octa_backend.service.run_start import read_start, start_kept, try_start
from octa_backend.service.tensorboard_sink import fit_with_board
from octa_backend.storage.files import write_aside
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation_report import ScanResult
from octa_backend.training.events import Event, FindingNoticed, RunTreated
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.run import Emit
from octa_backend.training.trainer import Outcome


@dataclass(frozen=True, slots=True)
class LocalResult:
    """Where the model lies, how the run ended, and the model's card."""

    model: Path | None
    outcome: Outcome
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """Scans that were checked, and the plan for them; its checkpoints are in `out`, so that it can go on later."""

    run: Experiment
    source: Source
    findings: tuple[Finding, ...]
    config_changes: dict[str, Any]
    out: Path
    config: TrainConfig
    initial: InitialWeights | None

    @property
    def checkpoints(self) -> Checkpoints:
        """What it goes on from."""
        return checkpoints_of(self.out)

    def train(self, emit: Emit, should_stop: Callable[[], bool]) -> LocalResult:
        """Train, score and report once, and write the model beside its checkpoints."""
        self._keep_plan()
        keep_augmentation_sheet(self.run, self.out)
        last = self.checkpoints.last
        start = read_start(self.out) if last else StartChecks()
        noticed: list[Finding] = []
        noting = noted(recorded(emit, self.out / HISTORY_FILE), noticed)
        watched = self._watched(start_kept(noting, self.out), start)
        try_start(self.run, self.initial, last=last, earlier=start, should_stop=should_stop, emit=watched)
        outcome = fit_with_board(
            self.run,
            self.out / "tensorboard",
            checkpoints=self.checkpoints,
            emit=watched,
            should_stop=should_stop,
            initial=self.initial,
            advise=watched.advise if self.config.auto_heal else None,
        )
        best = outcome.best
        if best is None:
            return LocalResult(None, outcome, self._card(self.run, outcome, (), noticed))
        tested: Sequence[ScanResult] = ()
        tuned: Mapping[str, Any] | None = None
        if outcome.finished:
            scored = self._report(best, should_stop)
            outcome = replace(outcome, finished=scored is not None)
            tested, tuned = (scored.test, scored.tuned) if scored else ((), None)
        card = self._card(published(self.run, self.checkpoints), outcome, tested, noticed, tuned)
        folder = self._model_folder(best)
        model_service.write_model(folder, self.checkpoints.best_weights(), {"model_id": folder.name, **card})
        return LocalResult(folder, outcome, card)

    def _card(
        self,
        run: Experiment,
        outcome: Outcome,
        tested: Sequence[ScanResult],
        noticed: Sequence[Finding],
        tuned: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return make_card(run, self.source, outcome, tested, self._history(), (*self.findings, *noticed), tuned)

    def score(self, should_stop: Callable[[], bool]) -> tuple[str, Scored | None]:
        """Score and report the best epoch so far, as at the end; the model's name, and None if asked to stop.

        Raises:
            NoModelYet: no epoch is finished.
        """
        index = self.checkpoints.index
        if index is None or not self._history():
            raise NoModelYet(f"{self.out} holds no model; train it first")
        return self._model_folder(index.best).name, self._report(index.best, should_stop)

    def _report(self, best: Best, should_stop: Callable[[], bool]) -> Scored | None:
        run = published(self.run, self.checkpoints)
        reporting = Reporting(run, self.source, self._model_folder(best).name, best, self._history(), self.out)
        return reporting.make(self.checkpoints, should_stop)

    def _model_folder(self, best: Best) -> Path:
        return model_service.folder_for(self.out / f"model-e{best.epoch}", self.checkpoints.best_weights())

    def _history(self) -> list[dict[str, Any]]:
        return read_history(self.out / HISTORY_FILE)

    def _watched(self, emit: Emit, start: StartChecks) -> Watched:
        """The same, behind the training doctor."""
        plan = self.run.plan.model_dump(mode="json")
        facts = facts_with(plan, self.findings, len(self.run.data.store))
        earlier = since_treatment(plan, map(record_of, read_history(self.out / HISTORY_FILE)))
        return Watched(emit, facts, self.run.plan.epochs, earlier, start=start_since(plan, start))

    def _keep_plan(self) -> None:
        """Note what the training is begun with, so that it goes on with the same."""
        content = {
            "config": self.config.model_dump(mode="json"),
            "config_changes": self.config_changes,
            "plan": self.run.plan.model_dump(mode="json"),
            "dataset_name": self.source.name,
        }
        write_aside(self.out / PLAN_FILE, json.dumps(content).encode())


def noted(emit: Emit, findings: list[Finding]) -> Emit:
    """An `emit` that also keeps what is noticed of the run, from now on."""

    def note(event: Event) -> None:
        if isinstance(event, FindingNoticed | RunTreated):
            findings.append(event.finding)
        emit(event)

    return note
