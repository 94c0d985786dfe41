"""Runs of small networks, and what they said."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.events import EpochFinished, FindingNoticed, RunTreated, StepFinished
from octa_backend.training.trainer import fit
from tests.tiny import a_plan

TIMES = ("seconds", "scans_per_second", "peak_memory_mb", "data_seconds", "step_seconds", "stalls")


def never():
    return False


def train(folder, data, *, should_stop=never, emit=None, advise=None, **options):
    """Events and outcome of a run of the small network."""
    events = []
    usual = {"model": "small_unet", "epochs": 2, "batch_size": 2, "lr": 0.01, "scheduler": "step"}
    plan = a_plan(data, **{**usual, **options})
    emit = emit or events.append
    outcome = fit(data, plan, checkpoints=Checkpoints(folder), emit=emit, should_stop=should_stop, advise=advise)
    return events, outcome


class Stopper:
    """Collects events and asks to stop once `condition` holds for one of them."""

    def __init__(self, condition):
        self.condition = condition
        self.events = []
        self.asked = False

    def emit(self, event):
        self.events.append(event)
        self.asked = self.asked or self.condition(event)

    def should_stop(self):
        return self.asked


def steps(events):
    return [event for event in events if isinstance(event, StepFinished)]


def epochs(events):
    return [event for event in events if isinstance(event, EpochFinished)]


def treatments(events):
    return [event for event in events if isinstance(event, RunTreated)]


def findings(events):
    return [event.finding for event in events if isinstance(event, FindingNoticed)]


def numbers(event):
    """What an event says, without what the clock and the machine say."""
    said = {name: value for name, value in asdict(event).items() if name not in TIMES}
    seen = said.pop("signals", None) or {}
    return said | {f"signals.{name}": value for name, value in seen.items() if name not in TIMES}


def assert_same(found, expected):
    """Events of the same kinds in the same order, with the same numbers but for rounding."""
    assert [type(event) for event in found] == [type(event) for event in expected]
    for one, other in zip(found, expected, strict=True):
        assert numbers(one).keys() == numbers(other).keys()
        for name, value in numbers(one).items():
            expected_value = numbers(other)[name]
            if not isinstance(value, str | None):
                expected_value = pytest.approx(expected_value, rel=1e-6, abs=1e-9)
            assert value == expected_value, name
