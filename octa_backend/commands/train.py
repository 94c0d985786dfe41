"""`octa train`: the engine with a progress bar, without a server."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.text import Language
from octa_backend.service.local_training import (
    LocalDataset,
    LocalResult,
    LocalTraining,
    conclude,
    open_dataset,
    open_training,
)
from octa_backend.service.process import CUBLAS_SETTINGS
from octa_backend.service.report_service import REPORT_HTML
from octa_backend.service.start_service import StartOptions
from octa_backend.service.train_service import read_config
from octa_backend.settings import Settings
from octa_backend.training.batches import steps_per_epoch
from octa_backend.training.complete import find_learning_rate
from octa_backend.training.events import EpochFinished, Event, FindingNoticed, StepFinished
from octa_backend.training.lr_finder import STEPS
from octa_backend.training.trainer import Outcome

ROWS_APART = 5
"""The table shows every fifth of the rates that were tried."""


def train(
    console: Console, archive: Path, out: Path, values: dict[str, Any], settings: Settings, options: StartOptions
) -> None:
    """Train on a zip and show how it goes; a first Ctrl-C stops at the next batch."""
    config = read_config(values)
    if config.deterministic:
        os.environ.update({**CUBLAS_SETTINGS, **os.environ})
    with console.status("checking the zip"):
        dataset = open_dataset(archive, out, config, settings, options)
    if dataset.config.folds:
        _train_folds(console, dataset, settings)
    else:
        _conclude(console, _train_one(console, dataset, settings, _StopOnInterrupt(console)))


def _train_one(
    console: Console, dataset: LocalDataset, settings: Settings, stop: _StopOnInterrupt, fold: int | None = None
) -> LocalResult:
    with console.status("measuring the device"):
        training = dataset.training(fold)
    _introduce(console, training, settings)
    with _Bar(console, training, settings.language) as bar:
        return training.train(bar, stop)


def _train_folds(console: Console, dataset: LocalDataset, settings: Settings) -> None:
    """One fold after the other, then the ensemble; a fold that is done is not trained again."""
    stop, folds = _StopOnInterrupt(console), dataset.config.folds
    for fold in range(1, folds + 1):
        console.rule(f"fold {fold} of {folds}")
        if not _train_one(console, dataset, settings, stop, fold).outcome.finished:
            console.print(f"stopped in fold {fold} of {folds}; run again to go on")
            return
    with console.status("scoring the ensemble") as status:
        found = conclude(dataset, lambda scan: status.update(f"scoring the ensemble: {escape(scan)}"))
    out_of_fold, over_folds = found.report["out_of_fold"]["summary"]["dice"], found.report["dice_over_folds"]
    table = Table(title="cross-validation", title_justify="left", show_header=False)
    interval = "{low:.4f} … {high:.4f}".format(**out_of_fold["interval"])
    shown = f"{out_of_fold['mean']:.4f}, 95 % interval {interval}, {out_of_fold['scans']} scans"
    table.add_row("out-of-fold Dice", shown)
    table.add_row("over the folds", "{mean:.4f} ± {std:.4f}, {low:.4f} to {high:.4f}".format(**over_folds))
    _add_test(table, found.card)
    table.add_row("ensemble", str(found.model))
    table.add_row("report", str(dataset.out / REPORT_HTML))
    console.print(table)


def find_lr(
    console: Console, archive: Path, out: Path, values: dict[str, Any], settings: Settings, options: StartOptions
) -> None:
    """Show the learning rate range test of a training, and train nothing; Ctrl-C breaks it off."""
    config = read_config({name: value for name, value in values.items() if name != "lr"})
    with console.status("checking the zip and measuring the device"):
        training = open_training(archive, out, config, settings, options)
    console.print(training.run.describe(), highlight=False)
    with console.status(f"trying {STEPS} learning rates"):
        found = find_learning_rate(training.run.plan, training.run.data, _StopOnInterrupt(console))
    if found is None:
        return
    table = Table("lr", "loss", "smoothed", title="learning rate range test", title_justify="left")
    for rate, loss, smoothed in list(zip(found.rates, found.losses, found.smoothed, strict=True))[::ROWS_APART]:
        table.add_row(f"{rate:.2g}", f"{loss:.4f}", f"{smoothed:.4f}")
    console.print(table)
    if found.suggestion is None:
        console.print("the loss did not fall at any rate; look at the masks, or try another model")
    else:
        console.print(f"suggestion: --lr {found.suggestion:g}, a tenth of the rate where the loss is least")


def _introduce(console: Console, training: LocalTraining, settings: Settings) -> None:
    for finding in (*training.findings, *training.run.findings()):
        console.print(f"  {finding.severity}: {describe(finding, settings.language)['message']}", markup=False)
    for name, value in training.config_changes.items():
        console.print(f"  {name} = {value}: set by a remedy", highlight=False, markup=False)
    console.print(training.run.describe(), highlight=False)
    for reason in training.run.plan.reasons:
        console.print(f"  {reason.field} = {reason.value}: {reason.reason}", highlight=False, markup=False)


def _conclude(console: Console, result: LocalResult) -> None:
    if result.model is None or result.outcome.best is None:
        console.print("stopped before the first epoch was finished; there is no model yet")
        return
    table = Table(title="result", title_justify="left", show_header=False)
    table.add_row("ended", _ending(result.outcome))
    table.add_row("best epoch", str(result.outcome.best.epoch))
    table.add_row("validation Dice", f"{result.outcome.best.val_dice:.4f}")
    _add_test(table, result.card)
    table.add_row("model", str(result.model))
    if result.outcome.finished:
        table.add_row("report", str(result.model.parent / REPORT_HTML))
    console.print(table)


def _add_test(table: Table, card: dict[str, Any]) -> None:
    test = card["test"]
    if test:
        table.add_row("test Dice", f"{test['dice']:.4f} ± {test['dice_std']:.4f} over {test['scans']} scans")


def _ending(outcome: Outcome) -> str:
    if not outcome.finished:
        return "stopped; run again to go on"
    return f"early ({outcome.ended_early.code})" if outcome.ended_early else "all epochs done"


class _StopOnInterrupt:
    """Turns the first Ctrl-C into a wish to stop between batches; the second one breaks off."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._wanted = False
        signal.signal(signal.SIGINT, self._interrupted)

    def __call__(self) -> bool:
        return self._wanted

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if self._wanted:
            raise KeyboardInterrupt
        self._wanted = True
        self._console.print("stopping at the next batch; press Ctrl-C again to break off")


class _Bar:
    """A progress bar over all steps, with loss, validation Dice and remaining time."""

    def __init__(self, console: Console, training: LocalTraining, language: Language) -> None:
        plan = training.run.plan
        self._language: Language = language
        self._console = console
        self._epochs = plan.epochs
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]} · Dice {task.fields[dice]}"),
            TimeRemainingColumn(),
            console=console,
        )
        steps = steps_per_epoch(training.run.data.train, plan)
        self._task = self._progress.add_task("", total=steps * self._epochs, epoch="–", loss="–", dice="–")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case StepFinished(epoch=epoch, step=step, steps=steps, loss=loss):
                done = (epoch - 1) * steps + step
                shown = f"{epoch}/{self._epochs}"
                self._progress.update(self._task, completed=done, epoch=shown, loss=f"{loss:.4f}")
            case FindingNoticed(finding):
                message = describe(finding, self._language)["message"]
                self._console.print(f"{finding.severity}: {message}", markup=False)
            case EpochFinished():
                self._progress.update(self._task, dice=f"{event.val_dice:.4f}")
                self._console.print(
                    f"epoch {event.epoch}: train loss {event.train_loss:.4f}, val Dice {event.val_dice:.4f}, "
                    f"{event.seconds:.1f} s, gradients {event.gradient_verdict}",
                    highlight=False,
                )
