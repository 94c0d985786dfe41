"""The report at the end of a training: its best checkpoint on the test split, or on the validation scans without one.

Every scan is computed once: the scores of the model's card come from the same predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from octa_backend.service.evaluation_data import Division, EvaluatedZip
from octa_backend.service.evaluation_model import EvaluatedModel
from octa_backend.service.evaluation_run import Evaluation, EvaluationRun
from octa_backend.service.experiment import Experiment, Source
from octa_backend.service.report_service import read_report, write_report
from octa_backend.training.checkpoint import Best, Checkpoints, load_weights
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.evaluation_html import to_html
from octa_backend.training.evaluation_report import ScanResult, read_scans
from octa_backend.training.network import build_network
from octa_backend.training.run_facts import RunFacts
from octa_backend.training.spacings import scale_of
from octa_backend.training.threshold import USUAL


class Interrupted(Exception):
    """The user asked to stop while scans were scored."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The scans that were scored, and which split they are: "test" or "val".

    Attributes:
        tuned: `threshold`, `dice` at it and `usual_dice` at 0.5 over so many validation `scans`; None with several
            classes.
    """

    split: str
    scans: list[ScanResult]
    tuned: Mapping[str, Any] | None

    @property
    def test(self) -> list[ScanResult]:
        """The scans of the test split, empty where others were scored."""
        return self.scans if self.split == "test" else []


@dataclass(frozen=True, slots=True)
class Reporting:
    """A finished run and where its report belongs.

    Attributes:
        run: the plan and its data.
        source: the dataset's zip.
        model: the name under which the best checkpoint is published.
        best: its epoch.
        history: the epochs, with the fields of `events.EpochFinished`.
        folder: gets `report.json` and `report.html`.
    """

    run: Experiment
    source: Source
    model: str
    best: Best
    history: Sequence[Mapping[str, Any]]
    folder: Path

    def make(self, checkpoints: Checkpoints, should_stop: ShouldStop) -> Scored | None:
        """Score the best checkpoint and write both files; None if asked to stop: the run is then not at its end.

        A report of the same model after the same number of epochs is not made again: an attempt that died between
        report and end does not look at the test split twice.
        """
        kept = self._kept()
        if kept is not None:
            return Scored(kept["subject"]["split"], read_scans(kept), in_short(kept["tuned"]))
        network = build_network(self.run.plan).eval()
        load_weights(network, checkpoints.best_weights())
        try:
            found = self._evaluate(EvaluatedModel(self.model, {}, self.run.plan, (network,)), should_stop)
        except Interrupted:
            return None
        write_report(self.folder, found.report.to_json(), to_html(found.report, found.pictures))
        tuned = found.report.tuned
        return Scored(found.report.subject.split, list(found.report.scans), in_short(asdict(tuned) if tuned else None))

    def _kept(self) -> dict[str, Any] | None:
        content = read_report(self.folder)
        if content is None or content["kind"] != "evaluation" or content["subject"]["model"] != self.model:
            return None
        return content if len(content["history"]) == len(self.history) else None

    def _evaluate(self, model: EvaluatedModel, should_stop: ShouldStop) -> Evaluation:
        facts = RunFacts.of(self.run.plan, self.history, self.best.epoch, len(self.run.data.train))
        return self._design(model).run(unless(should_stop), self.history, facts)

    def _design(self, model: EvaluatedModel) -> EvaluationRun:
        run = self.run
        splits = {"train": run.splits.train, "val": run.splits.val, "test": run.splits.test}
        split = "test" if run.splits.test and not run.is_fold else "val"
        return EvaluationRun(
            model=model,
            data=EvaluatedZip(run.data.store, self.source.name, self.source.sha256),
            division=Division(splits, own=True, size=len(run.data.store)),
            split=split,
            indices=splits[split],
            tuning=run.splits.val if run.plan.classes == 2 else (),
            threshold=USUAL,
            use_tuned=False,
            scale=scale_of(run.data.store.manifest),
            known=_why_not_test(run),
            ignore_index=run.plan.config.ignore_index,
        )


def in_short(tuned: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A report's tuned threshold without its curve, as a model's card has it."""
    return {name: value for name, value in tuned.items() if name != "curve"} if tuned else None


def _why_not_test(run: Experiment) -> tuple[str, ...]:
    if run.is_fold:
        return ("one_fold",)
    return () if run.splits.test else ("no_test_split",)


def unless(should_stop: ShouldStop) -> Callable[[str], None]:
    """Told of every scan that is done; breaks off where the user asked to stop."""

    def look(_scan: str) -> None:
        if should_stop():
            raise Interrupted

    return look
