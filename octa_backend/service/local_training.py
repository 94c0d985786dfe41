"""A training without server and database: a zip in, a folder with checkpoints and a model out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octa_backend.data.folds import check_folds
from octa_backend.data.intake import examine, opened_archive, prepare
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.errors import InvalidConfig, InvalidDataset
from octa_backend.service import model_service
from octa_backend.service.dataset_service import limits
from octa_backend.service.epoch_history import HISTORY_FILE, read_history, recorded
from octa_backend.service.experiment import (
    Experiment,
    Source,
    design,
    keep_augmentation_sheet,
    make_card,
)
from octa_backend.service.fold_conclusion import Conclusion, Member
from octa_backend.service.job_report import Reporting
from octa_backend.service.repair_service import automatic, safe_remedies, write_repaired_copy
from octa_backend.service.report_service import read_report
from octa_backend.service.start_service import StartOptions, judge
from octa_backend.settings import Settings
from octa_backend.storage.files import remove, write_aside
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation_report import ScanResult
from octa_backend.training.plan import Plan
from octa_backend.training.trainer import Emit, Outcome, fit


@dataclass(frozen=True, slots=True)
class LocalResult:
    """Where the model lies, how the run ended, and the model's card."""

    model: Path | None
    outcome: Outcome
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Concluded:
    """A cross-validation's ensemble: its folder, its card, and the report."""

    model: Path
    card: dict[str, Any]
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """A zip that was checked, and the plan for it; its checkpoints are in `out`, so that it can go on later."""

    run: Experiment
    source: Source
    findings: tuple[Finding, ...]
    config_changes: dict[str, Any]
    out: Path
    config: TrainConfig

    def train(self, emit: Emit, should_stop: Callable[[], bool]) -> LocalResult:
        """Train, score and report once, and write the model beside its checkpoints."""
        self._keep_plan()
        keep_augmentation_sheet(self.run, self.out)
        checkpoints = Checkpoints(self.out / "checkpoints")
        emit = recorded(emit, self.out / HISTORY_FILE)
        outcome = fit(self.run.data, self.run.plan, checkpoints=checkpoints, emit=emit, should_stop=should_stop)
        if outcome.best is None:
            return LocalResult(None, outcome, make_card(self.run, self.source, outcome, ()))
        folder = self.out / f"model-e{outcome.best.epoch}"
        tested: Sequence[ScanResult] = ()
        if outcome.finished:
            history = read_history(self.out / HISTORY_FILE)
            reporting = Reporting(self.run, self.source, folder.name, outcome.best, history, self.out)
            scored = reporting.make(checkpoints, should_stop)
            outcome = replace(outcome, finished=scored is not None)
            tested = scored.test if scored else ()
        card = make_card(self.run, self.source, outcome, tested)
        model_service.write_model(folder, checkpoints.best_weights(), {"model_id": folder.name, **card})
        return LocalResult(folder, outcome, card)

    def _keep_plan(self) -> None:
        """Note what the training is begun with, so that it goes on with the same."""
        content = {
            "config": self.config.model_dump(mode="json"),
            "config_changes": self.config_changes,
            "plan": self.run.plan.model_dump(mode="json"),
        }
        write_aside(self.out / PLAN_FILE, json.dumps(content).encode())


@dataclass(frozen=True, slots=True)
class LocalDataset:
    """A zip that was checked and prepared in `out`, and the configuration with what remedies changed in it."""

    source: Source
    findings: tuple[Finding, ...]
    config: TrainConfig
    config_changes: dict[str, Any]
    out: Path
    device: str

    @property
    def store(self) -> DatasetStore:
        """The prepared scans."""
        return DatasetStore(self.out / DATASET_FOLDER)

    def training(self, fold: int | None = None) -> LocalTraining:
        """Plan a training on it; of a cross-validation, that of one fold, which has a folder of its own.

        Raises:
            InvalidConfig: the configuration does not fit the data.
        """
        out = self.out if fold is None else fold_folder(self.out, fold, self.config.folds)
        out.mkdir(exist_ok=True)
        run = design(self.store, self.config, self.device, _earlier_plan(_kept(out), self.config), fold=fold)
        return LocalTraining(run, self.source, self.findings, self.config_changes, out, self.config)


def fold_folder(out: Path, fold: int, folds: int) -> Path:
    """Where one fold of a cross-validation keeps everything."""
    return out / f"fold-{fold}-of-{folds}"


def open_dataset(
    archive: Path, out: Path, config: TrainConfig, settings: Settings, options: StartOptions
) -> LocalDataset:
    """Check and prepare a zip.

    Args:
        archive: the zip.
        out: a folder for everything; if it holds a training of the same zip, that goes on.
        config: what to compute.
        settings: limits and device.
        options: what to do where the checks find errors.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: the zip does not fit.
        InvalidConfig: the folder holds a training of another zip, or there are fewer patients, or scans, than folds.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    folder, mark = out / DATASET_FOLDER, out / "dataset.sha256"
    if folder.exists() and mark.read_text("utf-8") != digest:
        raise InvalidConfig(f"{out} holds a training of another zip; choose another folder with --out")
    mark.write_text(digest, "utf-8")
    kept = (_kept(out) or _kept(fold_folder(out, 1, config.folds))) if folder.exists() else None
    findings = () if folder.exists() else take_in(archive, folder, settings, options)
    try:
        config, changes = judge(findings, config, options)
    except InvalidDataset:
        remove(folder)
        raise
    if kept is not None:
        changes = {name: to for name, to in kept["config_changes"].items() if name not in config.model_fields_set}
        config = config.model_copy(update=changes)
    opened = LocalDataset(Source(digest[:20], archive.name, digest), findings, config, changes, out, settings.device)
    if config.folds:
        check_folds(opened.store.manifest.scans, config.folds)
    return opened


def open_training(
    archive: Path, out: Path, config: TrainConfig, settings: Settings, options: StartOptions
) -> LocalTraining:
    """Check a zip and plan a training on it, or the first fold of a cross-validation; see `open_dataset`."""
    return open_dataset(archive, out, config, settings, options).training(1 if config.folds else None)


def take_in(archive: Path, folder: Path, settings: Settings, options: StartOptions) -> tuple[Finding, ...]:
    """Prepare the zip, or its repaired copy where that is wanted and changes something."""
    findings = prepare(archive, folder, limits(settings)).findings
    if options.repair != "auto" or not safe_remedies(findings):
        return findings
    copy = folder.with_name("repaired.zip")
    with opened_archive(archive, limits(settings)) as source:
        examination = examine(source, limits(settings))
        if not write_repaired_copy(source, examination, automatic, copy, limits(settings)):
            return findings
    remove(folder)
    return prepare(copy, folder, limits(settings)).findings


DATASET_FOLDER = "dataset"
PLAN_FILE = "plan.json"
CHANGEABLE = ("epochs", "lr", "patience", "max_minutes", "val_freq", "save_freq", "keep_last")
"""Fields that a run may go on with changed under the plan it was begun with."""


def _kept(out: Path) -> dict[str, Any] | None:
    """What the training in `out` was begun with; None if it was not begun."""
    path = out / PLAN_FILE
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _earlier_plan(kept: dict[str, Any] | None, config: TrainConfig) -> Plan | None:
    """The plan that the training was begun with, unless the configuration is now another one."""
    if kept is None:
        return None
    changes = {name: getattr(config, name) for name in CHANGEABLE}
    same = TrainConfig.model_validate(kept["config"]).model_copy(update=changes) == config
    return Plan.model_validate(kept["plan"]) if same else None


def conclude(dataset: LocalDataset, on_scan: Callable[[str], None]) -> Concluded:
    """Make the ensemble of a cross-validation whose folds are all trained, and its report.

    Args:
        dataset: what they were trained on.
        on_scan: is told the name of every test scan that is done.
    """
    members = []
    for fold in range(1, dataset.config.folds + 1):
        folder = fold_folder(dataset.out, fold, dataset.config.folds)
        report = read_report(folder)
        assert report is not None, "a fold that is finished has a report"
        members.append(Member(fold, folder / report["subject"]["model"], report))
    conclusion = Conclusion(
        dataset.store, dataset.source, members, dataset.out, "ensemble-", dataset.out, dataset.device
    )
    card = conclusion.make(on_scan)
    return Concluded(dataset.out / conclusion.name, card, read_report(dataset.out) or {})
