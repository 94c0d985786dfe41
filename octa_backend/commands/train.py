"""`octa train`: the engine with a table and a progress bar, without a server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from octa_backend.commands.script_options import ScriptOptions, in_fields
from octa_backend.commands.training_view import TrainingView, show_facts, speed_rows
from octa_backend.diagnosis.messages import describe
from octa_backend.errors import OctaError
from octa_backend.service.local_conclusion import conclude, score_test
from octa_backend.service.local_dataset import LocalDataset, open_dataset, reopen_dataset
from octa_backend.service.local_folder import folder_to_resume, values_of
from octa_backend.service.local_training import LocalResult, LocalTraining
from octa_backend.service.process import CUBLAS_SETTINGS, keep_freed_memory
from octa_backend.service.report_service import REPORT_HTML
from octa_backend.service.start_service import StartOptions
from octa_backend.service.train_service import read_config
from octa_backend.settings import Settings
from octa_backend.training.complete import find_learning_rate
from octa_backend.training.config import TrainConfig
from octa_backend.training.lr_finder import STEPS
from octa_backend.training.trainer import Outcome

ROWS_APART = 5
"""The table shows every fifth of the rates that were tried."""

SCORES = ("dice", "iou", "precision", "recall")
"""What `--test-only` shows."""

OUT = Path("octa_train")
"""Where a training lies when nothing else is said."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says.

    Attributes:
        data: zip or folder of the scans; None where the training's own are meant.
        out: the training's folder, or None.
        resume: what names the training to go on with, or None.
        values: fields of the configuration, as text.
        script: options that stand for fields.
        options: what to do where the checks find errors.
    """

    data: Path | None
    out: Path | None
    resume: Path | None
    values: dict[str, Any]
    script: ScriptOptions = field(default_factory=ScriptOptions)
    options: StartOptions = field(default_factory=StartOptions)


def train(console: Console, wishes: Wishes, settings: Settings) -> None:
    """Train and show how it goes; a first Ctrl-C stops at the next batch.

    Raises:
        OctaError: what was given does not fit together, or the training fails.
    """
    keep_freed_memory()
    out = _folder(wishes)
    kept = values_of(out) if wishes.resume is not None else {}
    config = read_config({**kept, **in_fields(wishes.script, wishes.values, kept, settings.device)})
    if config.deterministic:
        os.environ.update({**CUBLAS_SETTINGS, **os.environ})
    dataset = _opened(console, wishes, out, config, settings)
    stop = _StopOnInterrupt(console)
    if not dataset.config.folds:
        _train_one(console, dataset.training, wishes, settings, stop)
    elif _train_folds(console, dataset, wishes, settings, stop):
        _conclude_folds(console, dataset)


def _train_one(
    console: Console,
    plan_training: Callable[[], LocalTraining],
    wishes: Wishes,
    settings: Settings,
    stop: _StopOnInterrupt,
) -> bool:
    """Train once and show the result; whether that came to its end."""
    with console.status("measuring the device"):
        training = plan_training()
    _introduce(console, training, settings)
    if wishes.script.amp and training.run.plan.config.precision == "fp32":
        console.print("--amp: arithmetic in 16 bits does not pay on this device, so the network computes in fp32")
    with TrainingView(console, training.run, settings.language) as view:
        result = training.train(view, stop)
    _conclude(console, result, speed_rows(view.epochs, training.run.plan.batch_size))
    return result.outcome.finished


def _train_folds(
    console: Console, dataset: LocalDataset, wishes: Wishes, settings: Settings, stop: _StopOnInterrupt
) -> bool:
    """One fold after the other, until one is stopped; a fold that is done is not trained again."""
    folds = dataset.config.folds
    for fold in range(1, folds + 1):
        console.rule(f"fold {fold} of {folds}")
        if not _train_one(console, partial(dataset.training, fold), wishes, settings, stop):
            console.print(f"stopped in fold {fold} of {folds}; run again to go on")
            return False
    return True


def _conclude_folds(console: Console, dataset: LocalDataset) -> None:
    with console.status("scoring the ensemble") as status:
        found = conclude(dataset, lambda scan: status.update(f"scoring the ensemble: {escape(scan)}"))
    out_of_fold, over_folds = found.report["out_of_fold"]["summary"]["dice"], found.report["dice_over_folds"]
    interval = "{low:.4f} … {high:.4f}".format(**out_of_fold["interval"])
    rows = {
        "out-of-fold Dice": f"{out_of_fold['mean']:.4f}, 95 % interval {interval}, {out_of_fold['scans']} scans",
        "over the folds": "{mean:.4f} ± {std:.4f}, {low:.4f} to {high:.4f}".format(**over_folds),
        **_test_row(found.card),
        "ensemble": str(found.model),
        "report": str(dataset.out / REPORT_HTML),
    }
    show_facts(console, "cross-validation", rows)


def score(console: Console, wishes: Wishes, settings: Settings) -> None:
    """Score the model of a training's folder on the test split, and train nothing.

    Raises:
        OctaError: there is no model, no test split, or an option that the model was not trained with.
    """
    out = _folder(wishes)
    kept = values_of(out)
    config = read_config(kept)
    given = read_config({**kept, **in_fields(wishes.script, wishes.values, kept, settings.device)})
    changed = [name for name in TrainConfig.model_fields if getattr(given, name) != getattr(config, name)]
    if changed:
        named = ", ".join(f"{name}={getattr(config, name)}" for name in changed)
        raise OctaError(f"--test-only scores the model as it was trained, with {named}; leave out what differs")
    dataset = _opened(console, wishes, out, config, settings)
    with console.status("scoring the test split"):
        found = score_test(dataset, _StopOnInterrupt(console))
    if found is None:
        return
    scores = found.summary
    rows = {f"test {name}": f"{scores[name]:.4f} ± {scores[f'{name}_std']:.4f}" for name in SCORES}
    report = str(out / REPORT_HTML)
    show_facts(console, "test", {"model": found.model, "test scans": str(scores["scans"]), **rows, "report": report})


def find_lr(console: Console, wishes: Wishes, settings: Settings) -> None:
    """Show the learning rate range test of a training, and train nothing; Ctrl-C breaks it off."""
    fields = in_fields(wishes.script, wishes.values, {}, settings.device)
    config = read_config({name: value for name, value in fields.items() if name != "lr"})
    dataset = _opened(console, wishes, _folder(wishes), config, settings)
    with console.status("measuring the device"):
        training = dataset.training(1 if dataset.config.folds else None)
    console.print(training.run.describe(), highlight=False)
    with console.status(f"trying {STEPS} learning rates"):
        stop = _StopOnInterrupt(console)
        found = find_learning_rate(training.run.plan, training.run.data, stop, training.initial)
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


def _folder(wishes: Wishes) -> Path:
    """The training's folder.

    Raises:
        OctaError: `--resume` names none, or another one than `--out`.
    """
    if wishes.resume is None:
        return wishes.out or OUT
    out = folder_to_resume(wishes.resume)
    if wishes.out is not None and wishes.out.resolve() != out.resolve():
        raise OctaError(f"--resume {wishes.resume} goes on in {out}, not in {wishes.out}; leave out --out")
    return out


def _opened(console: Console, wishes: Wishes, out: Path, config: TrainConfig, settings: Settings) -> LocalDataset:
    with console.status("checking the scans"):
        if wishes.data is None:
            return reopen_dataset(out, config, settings, wishes.options)
        return open_dataset(wishes.data, out, config, settings, wishes.options)


def _introduce(console: Console, training: LocalTraining, settings: Settings) -> None:
    for finding in (*training.findings, *training.run.findings()):
        console.print(f"  {finding.severity}: {describe(finding, settings.language)['message']}", markup=False)
    for name, value in training.config_changes.items():
        console.print(f"  {name} = {value}: set by a remedy", highlight=False, markup=False)
    console.print(training.run.describe(), highlight=False)
    for reason in training.run.plan.reasons:
        console.print(f"  {reason.field} = {reason.value}: {reason.reason}", highlight=False, markup=False)


def _conclude(console: Console, result: LocalResult, speed: dict[str, str]) -> None:
    if result.model is None or result.outcome.best is None:
        console.print("stopped before the first epoch was finished; there is no model yet")
        return
    rows = {
        "ended": _ending(result.outcome),
        "best epoch": str(result.outcome.best.epoch),
        "validation Dice": f"{result.outcome.best.val_dice:.4f}",
    }
    model = {"model": str(result.model)}
    report = {"report": str(result.model.parent / REPORT_HTML)} if result.outcome.finished else {}
    show_facts(console, "result", {**rows, **_test_row(result.card), **speed, **model, **report})


def _test_row(card: dict[str, Any]) -> dict[str, str]:
    test = card["test"]
    return {"test Dice": f"{test['dice']:.4f} ± {test['dice_std']:.4f} over {test['scans']} scans"} if test else {}


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
