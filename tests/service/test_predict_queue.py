from __future__ import annotations

import contextlib
import threading
import time

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


def test_what_runs_in_the_background_gives_way_until_no_request_is_under_way():
    queue, waiting, went = PredictQueue(2), threading.Event(), threading.Event()

    def background():
        waiting.set()
        queue.give_way(20)
        went.set()

    with queue.place():
        thread = threading.Thread(target=background)
        thread.start()
        assert waiting.wait(20)
        with queue.place():
            pass
        assert not went.wait(0.1)
    assert went.wait(20)
    thread.join()


def test_what_runs_in_the_background_gives_way_only_for_a_while():
    queue = PredictQueue(1)
    with queue.place():
        start = time.monotonic()
        queue.give_way(0.05)
        assert time.monotonic() - start >= 0.04


def test_giving_way_takes_no_place():
    queue = PredictQueue(1)
    queue.give_way()
    with queue.place():
        pass
