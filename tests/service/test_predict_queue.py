from __future__ import annotations

import contextlib

import pytest

from octa_backend.errors import TooManyPredictions
from octa_backend.service import predict_queue
from octa_backend.service.predict_queue import PredictQueue


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(predict_queue, "time", found)
    return found


def test_a_full_queue_refuses_and_takes_again_when_one_has_left():
    queue = PredictQueue(2)
    with queue.place():
        with queue.place():
            with pytest.raises(TooManyPredictions, match="2 predictions are under way"), queue.place():
                pytest.fail("there was a third place")
            with pytest.raises(TooManyPredictions):
                queue.require_place()
        queue.require_place()
        with queue.place():
            pass


def test_a_place_is_given_back_when_a_prediction_fails():
    queue = PredictQueue(1)
    with contextlib.suppress(ValueError), queue.place():
        raise ValueError("no scan")
    with queue.place():
        pass


@pytest.mark.parametrize(("seconds", "expected"), [(0.001, 1), (4.5, 5), (500, 60)])
def test_who_is_refused_is_told_to_come_back_after_a_requests_usual_time(clock, seconds, expected):
    queue = PredictQueue(1)
    for _ in range(100):
        with queue.place():
            clock.now += seconds
    with queue.place(), pytest.raises(TooManyPredictions) as refused:
        queue.require_place()
    assert refused.value.retry_after_seconds == expected
