from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from octa_backend.commands.training_view import TrainingView, show_facts, speed_rows
from octa_backend.data.splits import Splits
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.service.experiment import Experiment
from octa_backend.training.events import StartChecked
from tests.fakes import a_step, an_epoch
from tests.tiny import a_plan, synthetic_pairs, training_data, write_store

HEADS = ["epoch", "loss", "bce", "dice", "val Dice", "val IoU", "lr", "seconds", "gradients"]


@pytest.fixture
def run(tmp_path):
    data = training_data(write_store(tmp_path / "data", synthetic_pairs(3)))
    return Experiment(a_plan(data, model="tiny_unet", epochs=30), data, Splits(data.train, data.val, (), False))


def shown(run, *, terminal, epochs=2, height=20):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=140, height=height, color_system=None)
    with TrainingView(console, run, "en") as view:
        for epoch in range(1, epochs + 1):
            view(a_step(epoch, 1))
            view(replace(an_epoch(epoch, val_dice=0.8), val_iou=0.7, lr=0.00025))
    return console.file.getvalue(), view


def rows_at_the_end(printed):
    """The cells of the table that stays on the screen, row by row."""
    _, _, table = printed.rpartition("epochs ")
    head = next(line for line in table.splitlines() if "lr" in line)
    assert [cell.strip() for cell in head.split("┃")][1:-1] == HEADS
    return [line.replace("│", " ").split() for line in table.splitlines() if line.startswith("│")]


def test_a_terminal_gets_a_row_per_epoch_with_every_number(run):
    printed, _ = shown(run, terminal=True)
    assert rows_at_the_end(printed) == [
        ["1/30", "0.4000", "0.3000", "0.5000", "0.8000", "0.7000", "0.00025", "2.0", "healthy"],
        ["2/30", "0.4000", "0.3000", "0.5000", "0.8000", "0.7000", "0.00025", "2.0", "healthy"],
    ]


def test_the_table_on_the_screen_is_no_longer_than_the_screen_and_whole_at_the_end(run):
    printed, view = shown(run, terminal=True, epochs=30, height=12)
    assert len(Console(file=io.StringIO(), width=140).render_lines(view._screen())) <= 24
    assert [row[0] for row in rows_at_the_end(printed)] == [f"{epoch}/30" for epoch in range(1, 31)]


def test_a_pipe_gets_a_plain_line_per_epoch_and_nothing_else(run):
    printed, _ = shown(run, terminal=False)
    line = (
        "train loss 0.4000, bce 0.3000, dice 0.5000, val Dice 0.8000, val IoU 0.7000, lr 0.00025, 2.0 s, "
        "gradients healthy"
    )
    assert printed == f"epoch 1: {line}\nepoch 2: {line}\n"


@pytest.mark.parametrize(
    ("language", "line"), [("en", "initial loss 0.7000 (expected"), ("zh", "初始损失 0.7000（理论值")]
)
def test_what_was_tried_before_the_first_step_is_a_line_each(run, language, line):
    console = Console(file=io.StringIO(), width=60, color_system=None)
    with TrainingView(console, run, language) as view:
        view(StartChecked(StartChecks(initial_loss=0.7, expected_initial_loss=0.69, not_tried={"rates": "time"})))
    printed = console.file.getvalue().splitlines()
    assert len(printed) == 2
    assert printed[0].startswith(line)


def test_the_end_tells_means_and_the_peak():
    slow = replace(an_epoch(1), seconds=4.0, scans_per_second=4.0, peak_memory_mb=150.0)
    assert speed_rows([slow, an_epoch(2)], batch_size=2) == {
        "time per epoch": "3.00 s",
        "time per batch": "0.375 s",
        "scans per second": "6.00",
        "peak memory": "150 MiB",
    }
    assert speed_rows([], batch_size=2) == {}


@pytest.mark.parametrize(("terminal", "printed"), [(False, "model: a[b]\n"), (True, "┌")])
def test_facts_are_lines_in_a_pipe(terminal, printed):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
    show_facts(console, "result", {"model": "a[b]"})
    assert printed in console.file.getvalue()
