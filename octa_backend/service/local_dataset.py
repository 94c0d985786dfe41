"""The scans of a training without a server: a zip or a folder in, prepared and kept beside the checkpoints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octa_backend.data.folder import Folder
from octa_backend.data.folds import check_folds
from octa_backend.data.intake import examine, opened_source, prepare
from octa_backend.data.store import MANIFEST_FILE, DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.errors import InvalidConfig, InvalidDataset
from octa_backend.service.dataset_service import limits
from octa_backend.service.experiment import Source, design
from octa_backend.service.local_folder import (
    DATASET_FOLDER,
    MARK_FILE,
    begun,
    checkpoints_of,
    earlier_plan,
    fold_folder,
    is_begun,
    last_begun,
    plan_of_weights,
)
from octa_backend.service.local_training import LocalTraining
from octa_backend.service.pretrained import from_machine
from octa_backend.service.repair_service import automatic, safe_remedies, write_repaired_copy
from octa_backend.service.start_service import StartOptions, judge
from octa_backend.settings import Settings
from octa_backend.storage.files import remove
from octa_backend.storage.outputs import output_folder
from octa_backend.training.config import TrainConfig
from octa_backend.training.healing import treated
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.plan import Plan

WAYS_OUT = "--repair has safe remedies applied, --force trains all the same"
"""What the options that answer errors in the data are called on the command line."""

REPAIR_MARK, REPAIRED_ZIP = "repair", "repaired.zip"
"""The mark, among prepared scans, of a wish for `--repair`, and the copy beside them where that changed something."""


@dataclass(frozen=True, slots=True)
class LocalDataset:
    """Scans that were checked and prepared in `out`, and what is to be trained on them.

    Attributes:
        source: the zip or the folder they came from.
        findings: of the checks; empty where they were prepared earlier.
        config: what to compute, with what remedies changed in it.
        config_changes: fields that remedies set.
        out: for everything.
        device: the `device` setting.
        initial: weights that every training on them begins with, or begins anew with; those of one that goes on may be
            gone.
    """

    source: Source
    findings: tuple[Finding, ...]
    config: TrainConfig
    config_changes: dict[str, Any]
    out: Path
    device: str
    initial: InitialWeights | None

    @property
    def store(self) -> DatasetStore:
        """The prepared scans."""
        return DatasetStore(self.out / DATASET_FOLDER)

    def training(self, fold: int | None = None) -> LocalTraining:
        """Plan a training on them; of a cross-validation, that of one fold, which has a folder of its own.

        Raises:
            InvalidConfig: the configuration does not fit the data.
        """
        out = self.out if fold is None else fold_folder(self.out, fold, self.config.folds)
        out.mkdir(exist_ok=True)
        checkpoints = checkpoints_of(out)
        initial = self.initial if not checkpoints.last or (self.initial and self.initial.path.exists()) else None
        earlier = earlier_plan(out, self.config)
        trained = self._plan_of_weights(out)
        run = design(self.store, self.config, self.device, earlier, fold=fold, initial=initial, trained=trained)
        run = replace(run, plan=treated(run.plan, checkpoints.treatments))
        return LocalTraining(run, self.source, self.findings, self.config_changes, out, self.config, initial)

    def _plan_of_weights(self, folder: Path) -> Plan | None:
        """That of the training, or the fold, in a folder; of a fold that was not begun, that of the first one."""
        first = fold_folder(self.out, 1, self.config.folds) if folder != self.out else folder
        return plan_of_weights(folder) or plan_of_weights(first)


def open_dataset(data: Path, out: Path, config: TrainConfig, settings: Settings, options: StartOptions) -> LocalDataset:
    """Check and prepare a zip or a folder of scans.

    Args:
        data: the zip or the folder.
        out: a folder for everything; if it holds a training of the same scans, that goes on.
        config: what to compute.
        settings: limits and device.
        options: what to do where the checks find errors.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, InvalidDataset: the zip or the folder does not fit.
        InvalidConfig: `out` holds a training of other scans, or of these as they were before a repair, or a folder of
            the user's called `dataset`, or lies among the scans; or there are fewer patients, or scans, than folds.
        OctaError: `out` cannot be written to.
    """
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InvalidConfig(f"{out} lies in the folder of the scans, {data}; choose a folder outside it with --out")
    digest = _digest(data, settings)
    output_folder(out)
    _make_room(out, digest)
    folder = out / DATASET_FOLDER
    (out / MARK_FILE).write_text(digest, "utf-8")
    source = Source(digest[:20], data.name, digest)
    if folder.exists() and is_begun(out):
        _require_repaired(out, options)
        return _goes_on(source, config, last_begun(out), out, settings)
    remove(folder)  # of a run that ended before its plan: its scans may not have been judged yet, or not repaired
    findings = take_in(data, folder, settings, options)
    if options.repair == "auto":
        (folder / REPAIR_MARK).touch()
    try:
        config, changes = judge(findings, config, options, WAYS_OUT)
    except InvalidDataset:
        remove(folder)
        raise
    return _opened(source, findings, config, changes, out, settings)


def _make_room(out: Path, digest: str) -> None:
    """See that a folder may hold a training of these scans; other scans go where no training of them was begun.

    Raises:
        InvalidConfig: it holds a training of other scans, or something of the user's where the scans would lie.
    """
    folder, mark = out / DATASET_FOLDER, out / MARK_FILE
    kept = mark.read_text("utf-8") if mark.is_file() else None
    if folder.exists() and (kept is None or not (folder / MANIFEST_FILE).is_file()):
        raise InvalidConfig(f"{folder} is there already and is not of a training; choose another folder with --out")
    if kept in (None, digest):
        return
    if is_begun(out):
        raise InvalidConfig(f"{out} holds a training of other scans; choose another folder with --out")
    remove(folder)


def _require_repaired(out: Path, options: StartOptions) -> None:
    """See that scans which a training keeps were taken in with the repair that is wanted: it goes on with no others.

    Raises:
        InvalidConfig: they were not.
    """
    marks = (out / DATASET_FOLDER / REPAIR_MARK, out / REPAIRED_ZIP)  # the zip is that of an earlier version
    if options.repair == "auto" and not any(mark.exists() for mark in marks):
        raise InvalidConfig(
            f"the scans in {out} were taken in without --repair; leave it out to go on with them, or choose another "
            "folder with --out"
        )


def reopen_dataset(out: Path, config: TrainConfig, settings: Settings, options: StartOptions) -> LocalDataset:
    """The scans that the training in a folder keeps, to go on with it.

    Raises:
        NoModelYet: no training was begun there.
        InvalidConfig: a repair is wanted that they were taken in without, or there are fewer patients, or scans, than
            folds.
    """
    kept = begun(out)
    _require_repaired(out, options)
    digest = (out / MARK_FILE).read_text("utf-8")
    return _goes_on(Source(digest[:20], kept.get("dataset_name", out.name), digest), config, kept, out, settings)


def _goes_on(
    source: Source, config: TrainConfig, kept: dict[str, Any] | None, out: Path, settings: Settings
) -> LocalDataset:
    """With the fields that remedies set when the training was begun, where it was."""
    changes = kept["config_changes"] if kept else {}
    changes = {name: to for name, to in changes.items() if name not in config.model_fields_set}
    return _opened(source, (), config.model_copy(update=changes), changes, out, settings)


def _opened(
    source: Source,
    findings: tuple[Finding, ...],
    config: TrainConfig,
    changes: dict[str, Any],
    out: Path,
    settings: Settings,
) -> LocalDataset:
    initial = from_machine(settings, config.pretrained)
    spatial_dims = DatasetStore(out / DATASET_FOLDER).manifest.spatial_dims
    config = config.for_scans(spatial_dims)
    opened = LocalDataset(source, findings, config, changes, out, settings.device, initial)
    if config.folds:
        check_folds(opened.store.manifest.scans, config.folds)
    return opened


def take_in(data: Path, folder: Path, settings: Settings, options: StartOptions) -> tuple[Finding, ...]:
    """Prepare the scans, or their repaired copy where that is wanted and changes something."""
    findings = prepare(data, folder, limits(settings)).findings
    if options.repair != "auto" or not safe_remedies(findings):
        return findings
    copy = folder.with_name(REPAIRED_ZIP)
    with opened_source(data, limits(settings)) as source:
        examination = examine(source, limits(settings))
        if not write_repaired_copy(source, examination, automatic, copy, limits(settings)):
            return findings
    remove(folder)
    return prepare(copy, folder, limits(settings)).findings


def _digest(data: Path, settings: Settings) -> str:
    """SHA-256 of a zip, or of the names and contents of a folder."""
    if data.is_dir():
        with Folder(data, max_files=settings.max_files) as folder:
            return folder.sha256()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
