from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from octa_backend.inference import batching
from octa_backend.inference.batching import BatchingEngine
from tests.fakes import wait_for


class Gate:
    """An engine that doubles its input; it computes when the test opens it, and remembers the shapes that came."""

    name = "gate"

    def __init__(self):
        self.shapes = []
        self.open = threading.Event()
        self.refusals = 0

    def __call__(self, x_BCHW):
        self.shapes.append(tuple(x_BCHW.shape))
        assert self.open.wait(20)
        if self.refusals:
            self.refusals -= 1
            raise MemoryError("too large")
        return 2 * x_BCHW


def scan(value, side=4):
    return torch.full((1, 1, side, side), float(value))


def called_while_busy(gate, scans):
    """Answers, or errors, for a first scan and then `scans`, which all come while the first is computed."""
    engine = BatchingEngine(gate)
    with ThreadPoolExecutor(len(scans) + 1) as pool:
        first = pool.submit(engine, scan(0))
        wait_for("the first scan to be computed", lambda: gate.shapes)
        others = [pool.submit(engine, x) for x in scans]
        wait_for("the others to wait", lambda: len(engine._waiting) == len(scans))
        gate.open.set()
        return [future.exception() or future.result() for future in (first, *others)]


def test_an_idle_engine_computes_a_scan_at_once():
    gate = Gate()
    gate.open.set()
    assert torch.equal(BatchingEngine(gate)(scan(3)), scan(6))
    assert gate.shapes == [(1, 1, 4, 4)]


def test_scans_that_wait_are_computed_together_and_each_gets_its_own_answer():
    gate = Gate()
    answers = called_while_busy(gate, [scan(1), scan(2), scan(3), scan(4)])
    assert [answer.flatten()[0].item() for answer in answers] == [0, 2, 4, 6, 8]
    assert gate.shapes == [(1, 1, 4, 4), (4, 1, 4, 4)]


def test_a_batch_is_a_power_of_two_and_the_rest_follows():
    gate = Gate()
    called_while_busy(gate, [scan(value) for value in range(7)])
    assert [shape[0] for shape in gate.shapes] == [1, 4, 2, 1]
    assert [batching.power_of_two(count) for count in (0, 1, 2, 3, 4, 15, 16)] == [1, 1, 2, 2, 4, 8, 16]


def test_scans_of_different_sizes_are_computed_apart():
    gate = Gate()
    answers = called_while_busy(gate, [scan(1), scan(2, side=8), scan(3)])
    assert [answer.flatten()[0].item() for answer in answers] == [0, 2, 4, 6]
    assert sorted(gate.shapes[1:]) == [(1, 1, 8, 8), (2, 1, 4, 4)]


def test_a_batch_has_no_more_pixels_than_a_tile(monkeypatch):
    monkeypatch.setattr(batching, "BATCH_PIXELS", 2 * 4 * 4 + 1)
    gate = Gate()
    called_while_busy(gate, [scan(1), scan(2), scan(3)])
    assert [shape[0] for shape in gate.shapes] == [1, 2, 1]


def test_a_batch_that_fails_fails_one_and_the_others_are_computed_again():
    gate = Gate()
    gate.refusals = 2  # the first scan, and the batch of those that waited
    answers = called_while_busy(gate, [scan(1), scan(2), scan(3)])
    assert sum(isinstance(answer, MemoryError) for answer in answers) == 2
    assert sorted(answer.flatten()[0].item() for answer in answers if isinstance(answer, torch.Tensor))[0] >= 2


@pytest.mark.parametrize("side", [800, 2000])
def test_a_scan_larger_than_a_batch_is_computed_alone(side):
    gate = Gate()
    gate.open.set()
    assert BatchingEngine(gate)(scan(1, side)).shape == (1, 1, side, side)
