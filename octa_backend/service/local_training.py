"""A training without server and database: a zip or a folder of scans in, a folder with checkpoints and a model out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octa_backend.data.folder import Folder
from octa_backend.data.intake import examine, opened_source, prepare
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.errors import InvalidConfig, InvalidDataset, NoModelYet, OctaError
from octa_backend.service import model_service
from octa_backend.service.dataset_service import limits
from octa_backend.service.epoch_history import HISTORY_FILE, recorded
from octa_backend.service.experiment import (
    Experiment,
    Source,
    design,
    keep_augmentation_sheet,
    make_card,
    score_test_split,
    summarise,
)
from octa_backend.service.pretrained import from_machine
from octa_backend.service.repair_service import automatic, safe_remedies, write_repaired_copy
from octa_backend.service.start_service import StartOptions, judge
from octa_backend.service.tensorboard_sink import tensorboard, told_to
from octa_backend.settings import Settings
from octa_backend.storage.files import remove, write_aside
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.plan import Plan
from octa_backend.training.trainer import Emit, Outcome, fit


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
        return Checkpoints(self.out / CHECKPOINTS)

    def train(self, emit: Emit, should_stop: Callable[[], bool]) -> LocalResult:
        """Train, score the test split once, and write the model to `out/model`."""
        self._keep_plan()
        keep_augmentation_sheet(self.run, self.out)
        checkpoints = self.checkpoints
        with tensorboard(self.run, self.out / "tensorboard", checkpoints.last) as board:
            outcome = fit(
                self.run.data,
                self.run.plan,
                checkpoints=checkpoints,
                emit=told_to(recorded(emit, self.out / HISTORY_FILE), board),
                should_stop=should_stop,
                initial=self.initial,
                show=board.show if board else None,
            )
        tested = score_test_split(self.run, checkpoints, should_stop) if outcome.finished else []
        card = make_card(self.run, self.source, outcome, tested)
        if outcome.best is None:
            return LocalResult(None, outcome, card)
        folder = self.out / f"model-e{outcome.best.epoch}"
        model_service.write_model(folder, checkpoints.best_weights(), {"model_id": folder.name, **card})
        return LocalResult(folder, outcome, card)

    def score_test(self, should_stop: Callable[[], bool]) -> dict[str, Any] | None:
        """Mean and spread of the best checkpoint's scores on the test split; None if asked to stop.

        Raises:
            NoModelYet: no epoch is finished.
            OctaError: the scans have no test split.
        """
        if self.checkpoints.index is None:
            raise NoModelYet(f"{self.out} holds no model; train it first")
        if not self.run.data.test:
            raise OctaError(
                "the scans have no test split (a folder test/, or splits.csv); score others with: octa evaluate"
            )
        return summarise(score_test_split(self.run, self.checkpoints, should_stop))

    def _keep_plan(self) -> None:
        """Note what the training is begun with, so that it goes on with the same."""
        content = {
            "config": self.config.model_dump(mode="json"),
            "config_changes": self.config_changes,
            "plan": self.run.plan.model_dump(mode="json"),
            "dataset_name": self.source.name,
        }
        write_aside(self.out / PLAN_FILE, json.dumps(content).encode())


def open_training(
    data: Path, out: Path, config: TrainConfig, settings: Settings, options: StartOptions
) -> LocalTraining:
    """Check a zip or a folder of scans and plan a training on it.

    Args:
        data: the zip or the folder.
        out: a folder for everything; if it holds a training of the same scans, that goes on.
        config: what to compute.
        settings: limits and device.
        options: what to do where the checks find errors.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: the zip or the folder does not fit.
        InvalidConfig: `out` holds a training of other scans, or lies among the scans.
    """
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InvalidConfig(f"{out} lies in the folder of the scans, {data}; choose a folder outside it with --out")
    digest = _digest(data, settings)
    out.mkdir(parents=True, exist_ok=True)
    folder, mark = out / "dataset", out / MARK_FILE
    if folder.exists() and mark.read_text("utf-8") != digest:
        raise InvalidConfig(f"{out} holds a training of other scans; choose another folder with --out")
    mark.write_text(digest, "utf-8")
    kept = _kept(out) if folder.exists() else None
    findings = () if folder.exists() else _take_in(data, folder, settings, options)
    try:
        config, changes = judge(findings, config, options)
    except InvalidDataset:
        remove(folder)
        raise
    training = _plan(out, config, settings, Source(digest[:20], data.name, digest), kept)
    return replace(training, findings=findings, config_changes={**changes, **training.config_changes})


def reopen_training(out: Path, config: TrainConfig, settings: Settings) -> LocalTraining:
    """Go on with the training in a folder, on the scans that it keeps.

    Raises:
        NoModelYet: no training was begun there.
    """
    kept = _begun(out)
    digest = (out / MARK_FILE).read_text("utf-8")
    return _plan(out, config, settings, Source(digest[:20], kept.get("dataset_name", out.name), digest), kept)


def folder_to_resume(path: Path) -> Path:
    """The folder of the training that a path names: the folder itself, `latest` in it, its last checkpoint, or a file.

    Raises:
        OctaError: it names none, or another checkpoint than the last one.
    """
    if not path.exists() and path.name != LATEST:
        raise OctaError(f"{path} is not there; name a training's folder, {LATEST} in it, or its last checkpoint")
    path = path.resolve()
    out = next((folder for folder in (path, *path.parents) if (folder / MARK_FILE).is_file()), None)
    if out is None:
        raise OctaError(f"{path} is no training's folder and in none; begin with its weights by --pretrained {path}")
    last = Checkpoints(out / CHECKPOINTS).last
    if last == 0:
        raise OctaError(f"{out} holds no checkpoint to go on from; run the training without --resume")
    named = next((part for part in path.relative_to(out).parts if part.startswith(("last-", "best-"))), None)
    if named is not None and named != f"last-{last:05d}":
        raise OctaError(
            f"a training goes on from its last checkpoint, last-{last:05d}, not from {named}; begin another one with "
            f"its weights by --pretrained {path}"
        )
    return out


def values_of(out: Path) -> dict[str, Any]:
    """The fields that the user set for the training in a folder.

    Raises:
        NoModelYet: no training was begun there.
    """
    kept = _begun(out)
    defaults = TrainConfig().model_dump(mode="json")
    by_user = {name: value for name, value in kept["config"].items() if name not in kept["config_changes"]}
    return {name: value for name, value in by_user.items() if value != defaults.get(name)}


def _digest(data: Path, settings: Settings) -> str:
    """SHA-256 of a zip, or of the names and contents of a folder."""
    if data.is_dir():
        with Folder(data, max_files=settings.max_files) as folder:
            return folder.sha256()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plan(
    out: Path, config: TrainConfig, settings: Settings, source: Source, kept: dict[str, Any] | None
) -> LocalTraining:
    changes: dict[str, Any] = {}
    if kept is not None:
        changes = {name: to for name, to in kept["config_changes"].items() if name not in config.model_fields_set}
        config = config.model_copy(update=changes)
    goes_on = Checkpoints(out / CHECKPOINTS).last > 0
    initial = None if goes_on else from_machine(settings, config.pretrained)
    store = DatasetStore(out / "dataset")
    run = design(store, config, settings.device, _earlier_plan(kept, config), initial=initial)
    return LocalTraining(run, source, (), changes, out, config, initial)


def _take_in(data: Path, folder: Path, settings: Settings, options: StartOptions) -> tuple[Finding, ...]:
    """Prepare the scans, or their repaired copy where that is wanted and changes something."""
    findings = prepare(data, folder, limits(settings)).findings
    if options.repair != "auto" or not safe_remedies(findings):
        return findings
    copy = folder.with_name("repaired.zip")
    with opened_source(data, limits(settings)) as source:
        examination = examine(source, limits(settings))
        if not write_repaired_copy(source, examination, automatic, copy, limits(settings)):
            return findings
    remove(folder)
    return prepare(copy, folder, limits(settings)).findings


PLAN_FILE = "plan.json"
MARK_FILE = "dataset.sha256"
CHECKPOINTS = "checkpoints"
LATEST = "latest"
"""How a training's last checkpoint may be named, below the training's folder; there is no such file."""

CHANGEABLE = (
    *("epochs", "lr", "patience", "max_minutes", "val_freq", "save_freq", "keep_last"),
    *("pretrained", "tensorboard", "tensorboard_images"),
)
"""Fields that a run may go on with changed under the plan it was begun with."""


def _kept(out: Path) -> dict[str, Any] | None:
    """What the training in `out` was begun with; None if it was not begun."""
    path = out / PLAN_FILE
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _begun(out: Path) -> dict[str, Any]:
    kept = _kept(out)
    if kept is None:
        raise NoModelYet(f"{out} holds no training; name the scans to begin one")
    return kept


def _earlier_plan(kept: dict[str, Any] | None, config: TrainConfig) -> Plan | None:
    """The plan that the training was begun with, unless the configuration is now another one."""
    if kept is None:
        return None
    changes = {name: getattr(config, name) for name in CHANGEABLE}
    same = TrainConfig.model_validate(kept["config"]).model_copy(update=changes) == config
    return Plan.model_validate(kept["plan"]) if same else None
