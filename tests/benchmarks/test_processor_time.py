"""Processor seconds of trainings."""

from __future__ import annotations

import processor_time
import pytest
from processor_time import TrainingClock, tells_processor_seconds, with_processor_seconds

from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.training.events import EpochFinished, StartChecked, StepFinished


class Clock:
    """Shows what it was set to."""

    now = 0.0

    def process_time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(processor_time, "time", made)
    return made


def step(number, epoch=1):
    return StepFinished(epoch, number, 2, 0.5, {}, 0.001, {})


def epoch(number):
    return EpochFinished(number, 0.5, {}, 0.5, 0.5, 0.5, 0.5, 0.5, 0.001, 1.0, 1.0, 1.0, {}, "fine")


def test_steps_count_and_what_is_done_before_and_between_does_not(tmp_path, clock) -> None:
    watch = TrainingClock(tmp_path / "noted")

    def at(now, event):
        clock.now = now
        watch.hear(event)

    watch.should_stop()  # the checks before the first step ask as well
    at(10.0, StartChecked(StartChecks()))
    clock.now = 12.0
    assert not watch.should_stop()
    at(15.0, step(1))
    at(17.0, step(2))
    clock.now = 18.0
    watch.should_stop()  # between scans of the validation
    at(20.0, epoch(1))
    at(24.0, step(1, epoch=2))
    at(30.0, epoch(2))
    found = with_processor_seconds([{"epoch": 1}, {"epoch": 2}], tmp_path / "noted")
    assert found == [{"epoch": 1, "processor_seconds": 5.0}, {"epoch": 2, "processor_seconds": 9.0}]


def test_a_run_that_goes_on_keeps_what_was_noted_and_counts_a_broken_epoch_once(tmp_path, clock) -> None:
    path = tmp_path / "noted"
    path.write_text('\n{"epoch": 1, "seconds": 7.0}\n{"epoch": 2, "sec', "utf-8")  # killed while it wrote
    watch = TrainingClock(path)
    watch.hear(epoch(1))  # told again
    clock.now = 2.0
    watch.hear(step(1, epoch=2))
    clock.now = 3.0
    watch.hear(step(1, epoch=2))  # after a divergence: the epoch begins anew
    watch.hear(epoch(2))
    found = with_processor_seconds([{"epoch": 1}, {"epoch": 2}], path)
    assert [one["processor_seconds"] for one in found] == [7.0, 8.0]


def test_nothing_is_told_from_an_epoch_on_that_was_not_noted(tmp_path) -> None:
    path = tmp_path / "noted"
    path.write_text('\n{"epoch": 1, "seconds": 7.0}\n{"epoch": 3, "seconds": 7.0}', "utf-8")
    found = with_processor_seconds([{"epoch": n} for n in (1, 2, 3)], path)
    assert found == [{"epoch": 1, "processor_seconds": 7.0}, {"epoch": 2}, {"epoch": 3}]
    assert with_processor_seconds([{"epoch": 1}], tmp_path / "absent") == [{"epoch": 1}]


@pytest.mark.parametrize(("device", "told"), [("cpu", True), ("cuda", False), ("cuda:1", False)])
def test_processor_seconds_are_told_of_a_cpu_alone(device, told) -> None:
    assert tells_processor_seconds(device) is told
