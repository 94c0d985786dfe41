"""`octa train`: the engine with a table and a progress bar, without a server."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

from octa_backend.commands.script_options import ScriptOptions, in_fields
from octa_backend.commands.training_view import TrainingView, show_facts, speed_rows
from octa_backend.diagnosis.messages import describe
from octa_backend.errors import OctaError
from octa_backend.service.local_training import (
    LocalResult,
    LocalTraining,
    folder_to_resume,
    open_training,
    reopen_training,
    values_of,
)
from octa_backend.service.process import CUBLAS_SETTINGS
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
    out = _folder(wishes)
    kept = values_of(out) if wishes.resume is not None else {}
    config = read_config({**kept, **in_fields(wishes.script, wishes.values, kept, settings.device)})
    if config.deterministic:
        os.environ.update({**CUBLAS_SETTINGS, **os.environ})
    training = _opened(console, wishes, out, config, settings)
    _introduce(console, training, settings)
    if wishes.script.amp and training.run.plan.config.precision == "fp32":
        console.print("--amp: arithmetic in 16 bits does not pay on this device, so the network computes in fp32")
    stop = _StopOnInterrupt(console)
    with TrainingView(console, training.run, settings.language) as view:
        result = training.train(view, stop)
    _conclude(console, result, speed_rows(view.epochs, training.run.plan.batch_size))


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
    training = _opened(console, wishes, out, config, settings)
    console.print(training.run.describe(), highlight=False, markup=False)
    with console.status("scoring the test split"):
        found = training.score_test(_StopOnInterrupt(console))
    if found is None:
        return
    rows = {f"test {name}": f"{found[name]:.4f} ± {found[f'{name}_std']:.4f}" for name in SCORES}
    best = training.checkpoints.index
    assert best is not None, "score_test refuses a training without a model"
    show_facts(console, "test", {"epoch": str(best.best.epoch), "test scans": str(found["scans"]), **rows})


def find_lr(console: Console, wishes: Wishes, settings: Settings) -> None:
    """Show the learning rate range test of a training, and train nothing; Ctrl-C breaks it off."""
    fields = in_fields(wishes.script, wishes.values, {}, settings.device)
    config = read_config({name: value for name, value in fields.items() if name != "lr"})
    training = _opened(console, wishes, _folder(wishes), config, settings)
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


def _opened(console: Console, wishes: Wishes, out: Path, config: TrainConfig, settings: Settings) -> LocalTraining:
    with console.status("checking the scans and measuring the device"):
        if wishes.data is None:
            return reopen_training(out, config, settings)
        return open_training(wishes.data, out, config, settings, wishes.options)


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
    test = result.card["test"]
    if test:
        rows["test Dice"] = f"{test['dice']:.4f} ± {test['dice_std']:.4f} over {test['scans']} scans"
    show_facts(console, "result", {**rows, **speed, "model": str(result.model)})


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
