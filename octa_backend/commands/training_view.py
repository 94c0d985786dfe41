"""How a training shows on the console: a table of its epochs above a bar of its work, or plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.start_words import start_lines
from octa_backend.diagnosis.text import Language
from octa_backend.service.experiment import Experiment
from octa_backend.training.events import (
    EpochFinished,
    Event,
    FindingNoticed,
    RunTreated,
    StartChecked,
    StepFinished,
    seconds_per_batch,
)
from octa_backend.training.plan import Plan

LINES_AROUND = 7
"""Lines of the screen that are not rows of the table: its title, head and rules, and the bar."""


class TrainingView:
    """Takes the trainer's events; a context manager around the run.

    Attributes:
        epochs: what was told of each epoch; the last one of an earlier attempt is told again.
    """

    def __init__(self, console: Console, run: Experiment, language: Language) -> None:
        self.epochs: list[EpochFinished] = []
        self._console, self._language = console, language
        self._growth = run.plan.growth
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("step {task.fields[step]}"),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("", total=1.0, epoch="–", step="–", loss="–")
        self._live = Live(console=console, get_renderable=self._screen, transient=True) if console.is_terminal else None

    def __enter__(self) -> TrainingView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._console.print(epoch_table(self.epochs, self._growth.epochs))

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case StepFinished(epoch=epoch, step=step, steps=steps, loss=loss):
                done, place = self._growth.share_done(epoch, step / steps), f"{epoch}/{self._growth.epochs}"
                self._progress.update(
                    self._task, completed=done, epoch=place, step=f"{step}/{steps}", loss=f"{loss:.4f}"
                )
            case FindingNoticed(finding):
                self._tell(finding)
            case RunTreated(after=after, plan=plan, finding=finding):
                self.epochs = [epoch for epoch in self.epochs if epoch.epoch <= after]
                self._growth = Plan.model_validate(plan).growth
                self._tell(finding)
            case StartChecked(checks):
                for line in start_lines(checks, self._language):
                    self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            case EpochFinished():
                self.epochs.append(event)
                if self._live is None:
                    self._console.print(epoch_line(event), highlight=False, soft_wrap=True)

    def _tell(self, finding: Finding) -> None:
        message = describe(finding, self._language)["message"]
        self._console.print(f"{finding.severity}: {message}", markup=False)

    def _screen(self) -> Group:
        rows = max(1, self._console.height - LINES_AROUND)
        return Group(epoch_table(self.epochs[-rows:], self._growth.epochs), self._progress)


def epoch_table(epochs: Sequence[EpochFinished], total: int) -> Table:
    """A row per epoch: loss, its components, validation Dice and IoU, learning rate, time, gradients."""
    components = list(epochs[-1].loss_components) if epochs else []
    heads = ("epoch", "loss", *components, "val Dice", "val IoU", "lr", "seconds", "gradients")
    table = Table(*heads, title="epochs", title_justify="left")
    for epoch in epochs:
        parts = (f"{epoch.loss_components.get(name, 0):.4f}" for name in components)
        table.add_row(
            f"{epoch.epoch}/{total}",
            f"{epoch.train_loss:.4f}",
            *parts,
            f"{epoch.val_dice:.4f}",
            f"{epoch.val_iou:.4f}",
            f"{epoch.lr:.2g}",
            f"{epoch.seconds:.1f}",
            epoch.gradient_verdict,
        )
    return table


def epoch_line(epoch: EpochFinished) -> str:
    """The same as one line."""
    parts = "".join(f", {name} {value:.4f}" for name, value in epoch.loss_components.items())
    return (
        f"epoch {epoch.epoch}: train loss {epoch.train_loss:.4f}{parts}, val Dice {epoch.val_dice:.4f}, "
        f"val IoU {epoch.val_iou:.4f}, lr {epoch.lr:.2g}, {epoch.seconds:.1f} s, gradients {epoch.gradient_verdict}"
    )


def speed_rows(epochs: Sequence[EpochFinished], batch_size: int) -> dict[str, str]:
    """Means over the epochs that were told of, and the peak of memory; empty where there are none."""
    if not epochs:
        return {}
    speed = fmean(epoch.scans_per_second for epoch in epochs)
    per_batch = fmean(seconds_per_batch(epoch.scans_per_second, batch_size) for epoch in epochs)
    return {
        "time per epoch": f"{fmean(epoch.seconds for epoch in epochs):.2f} s",
        "time per batch": f"{per_batch:.3f} s",
        "scans per second": f"{speed:.2f}",
        "peak memory": f"{max(epoch.peak_memory_mb for epoch in epochs):.0f} MiB",
    }


def show_facts(console: Console, title: str, rows: dict[str, str]) -> None:
    """Names and values as a table, or as plain lines in a pipe."""
    if not console.is_terminal:
        for name, value in rows.items():
            console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
