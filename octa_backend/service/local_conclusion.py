"""The end of trainings without a server: a cross-validation's ensemble, and scores on the test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octa_backend.errors import NoModelYet, OctaError
from octa_backend.service.experiment import summarise
from octa_backend.service.fold_conclusion import Conclusion, Member
from octa_backend.service.job_report import Interrupted, unless
from octa_backend.service.local_dataset import LocalDataset
from octa_backend.service.local_folder import fold_folder
from octa_backend.service.report_service import read_report


@dataclass(frozen=True, slots=True)
class Concluded:
    """A cross-validation's ensemble: its folder, its card, and the report."""

    model: Path
    card: dict[str, Any]
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tested:
    """The name of the model that was scored on the test split, and its scores' mean and spread."""

    model: str
    summary: dict[str, Any]


def conclude(dataset: LocalDataset, on_scan: Callable[[str], None]) -> Concluded:
    """Make the ensemble of a cross-validation whose folds are all trained, and its report.

    Args:
        dataset: what they were trained on.
        on_scan: is told the name of every test scan that is done; what it raises breaks off.

    Raises:
        NoModelYet: a fold is not trained to its end.
    """
    members = [_member(dataset, fold) for fold in range(1, dataset.config.folds + 1)]
    conclusion = Conclusion(
        dataset.store, dataset.source, members, dataset.out, "ensemble-", dataset.out, dataset.device
    )
    card = conclusion.make(on_scan)
    return Concluded(dataset.out / conclusion.name, card, read_report(dataset.out) or {})


def _member(dataset: LocalDataset, fold: int) -> Member:
    folder = fold_folder(dataset.out, fold, dataset.config.folds)
    report = read_report(folder)
    if report is None:
        raise NoModelYet(f"fold {fold} of {dataset.config.folds} in {dataset.out} is not trained to its end yet")
    return Member(fold, folder / report["subject"]["model"], report)


def score_test(dataset: LocalDataset, should_stop: Callable[[], bool]) -> Tested | None:
    """Score what was trained, the best epoch so far or the ensemble, on the test split; None if asked to stop.

    The report is the one of the end of a training, and is not made again where that is there.

    Raises:
        NoModelYet: no epoch is finished, or a fold is not trained to its end.
        OctaError: the scans have no test split.
    """
    if all(scan.split != "test" for scan in dataset.store.manifest.scans):
        raise OctaError(
            "the scans have no test split (a folder test/, or splits.csv); score others with: octa evaluate"
        )
    if dataset.config.folds:
        try:
            found = conclude(dataset, unless(should_stop))
        except Interrupted:
            return None
        return _tested(found.model.name, found.card["test"])
    model, scored = dataset.training().score(should_stop)
    return _tested(model, summarise(scored.test)) if scored else None


def _tested(model: str, summary: dict[str, Any] | None) -> Tested:
    if summary is None:
        raise OctaError("no pixel of the test split counts: ignore_index leaves out all of it")
    return Tested(model, summary)
