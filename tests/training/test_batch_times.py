from __future__ import annotations

from itertools import chain

import pytest

from octa_backend.training.batch_times import BatchTimes


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(waits, works):
    """Batches that take so long to come, and with which so long is done."""
    clock = Clock()
    times = BatchTimes(clock)

    def slow():
        for number, wait in enumerate(waits):
            clock.now += wait
            yield number

    got = []
    for batch in times.over(slow()):
        got.append(batch)
        clock.now += works[batch]
    assert got == list(range(len(waits)))
    return times


def test_waiting_and_working_are_told_apart():
    times = run([1.0, 2.0, 0.5], [4.0, 4.0, 8.0])
    assert times.waited == pytest.approx([1.0, 2.0, 0.5])
    assert times.steps == pytest.approx([5.0, 6.0, 8.5])


def test_batch_that_comes_far_later_than_the_others_is_a_stall():
    assert run([*[1.0] * 10, 9.0], [2.0] * 11).stalls() == 1
    assert run([*[1.0] * 10, 4.9], [2.0] * 11).stalls() == 0


def test_batch_that_is_quicker_than_a_step_is_no_stall():
    assert run([*[0.001] * 10, 0.1], [2.0] * 11).stalls() == 0


def test_without_batches_nothing_stalls():
    assert run([], []).stalls() == 0


def test_error_of_the_batches_comes_through():
    with pytest.raises(ZeroDivisionError):
        list(BatchTimes().over(chain([1], (1 // zero for zero in [0]))))
