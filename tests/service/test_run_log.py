from __future__ import annotations

from dataclasses import replace

import pytest

from octa_backend.service.run_log import STEP_LINES, RunLog, epoch_line
from tests.fakes import a_step, an_epoch


@pytest.fixture
def run_log():
    return RunLog(epochs=50, language="en")


@pytest.fixture
def written(caplog):
    """Gives the lines that were logged so far."""
    caplog.set_level("INFO")
    return lambda: caplog.messages


def checked(epoch, verdict, *, is_due=False):
    """An epoch as the doctor filled it in."""
    plateau = {
        "last_losses": [0.5, 0.5, 0.5, 0.5, 0.5],
        "variance": 0.0,
        "improvement": 0.0,
        "is_due": is_due,
        "is_plateau": False,
        "verdict": verdict,
    }
    return replace(an_epoch(epoch), plateau=plateau)


def test_line_of_a_step_has_the_agreed_form(run_log, written):
    norms = {
        "encoder_conv1": 0.052314,
        "encoder_last": 0.003101,
        "decoder_first": 0.004522,
        "decoder_output": 0.002881,
    }
    run_log.step(replace(a_step(5, 1), gradient_norms=norms))
    assert written() == [
        "Epoch [5] Step 1 | encoder_conv1: 0.052314 | encoder_last: 0.003101 | decoder_first: 0.004522 "
        "| decoder_output: 0.002881 | Hint: healthy (all groups > 1e-4)"
    ]


@pytest.mark.parametrize(
    ("steps", "apart"), [(1, 1), (50, 1), (STEP_LINES, 1), (STEP_LINES + 1, 2), (1000, 5), (1001, 6), (100_000, 500)]
)
def test_a_long_epoch_shows_steps_evenly_apart(run_log, written, steps, apart):
    for step in range(1, steps + 1):
        run_log.step(a_step(3, step, steps))
    expected = list(range(1, steps + 1, apart))
    assert len(expected) <= STEP_LINES
    assert [int(line.split()[3]) for line in written()] == expected


def blocks(lines):
    return [line.splitlines()[0] for line in lines if line.startswith("[diagnosis]")]


def test_plateau_check_is_written_after_the_epochs_line_where_it_is_due(run_log, written):
    for epoch in range(1, 32):
        run_log.epoch(checked(epoch, "improving", is_due=epoch in (11, 21, 31)), is_new=True)
    assert blocks(written()) == [f"[diagnosis] loss plateau check (epoch {epoch})" for epoch in (11, 21, 31)]
    assert written()[10].startswith("Epoch [11/50] | Train Loss: ")
    assert written()[11].startswith("[diagnosis] loss plateau check (epoch 11)\n  last 5 losses: 0.500000, ")


def test_plateau_check_is_written_when_the_loss_comes_to_a_stand_and_not_while_it_stands(run_log, written):
    shapes = ["unclear", "improving", "flat", "flat", "oscillating", "flat", "flat"]
    for epoch, verdict in enumerate(shapes, 1):
        run_log.epoch(checked(epoch, verdict), is_new=True)
    assert blocks(written()) == [f"[diagnosis] loss plateau check (epoch {epoch})" for epoch in (3, 6)]


def test_an_epoch_of_an_earlier_attempt_is_not_written_but_remembered(run_log, written):
    run_log.epoch(checked(11, "flat", is_due=True), is_new=False)
    assert written() == []
    run_log.epoch(checked(12, "flat"), is_new=True)
    assert (len(written()), blocks(written())) == (1, [])


def test_an_epoch_that_nobody_judged_has_its_line_alone(run_log, written):
    run_log.epoch(an_epoch(11), is_new=True)
    assert written() == [epoch_line(an_epoch(11), 50)]


def test_lines_show_the_epochs_that_the_run_is_to_have_now(run_log, written):
    run_log.epochs = 12
    run_log.epoch(an_epoch(11), is_new=True)
    assert written() == [epoch_line(an_epoch(11), 12)]


def test_line_of_an_epoch_reads_as_people_know_it():
    expected = "Epoch [3/10] | Train Loss: 0.4000 (BCE: 0.3000, Dice: 0.5000) | Val Dice: 0.8120"
    assert epoch_line(an_epoch(3, val_dice=0.812), 10) == expected


def test_line_of_an_epoch_names_the_components_of_every_loss():
    epoch = replace(an_epoch(3), loss_components={"focal": 0.3, "dice": 0.5})
    assert "(focal: 0.3000, Dice: 0.5000)" in epoch_line(epoch, 10)
