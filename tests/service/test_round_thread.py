from __future__ import annotations

import threading

from octa_backend.service.round_thread import RoundThread

DEADLINE_SECONDS = 20


class Counting(RoundThread):
    """Counts its rounds; the next is due after a while, or when it is woken."""

    def __init__(self, pause):
        super().__init__("counting")
        self.pause = pause
        self.rounds = threading.Semaphore(0)

    def _round(self):
        self.rounds.release()
        return self.pause

    def did_a_round(self):
        return self.rounds.acquire(timeout=DEADLINE_SECONDS)


def test_the_first_round_is_at_once_and_another_when_it_is_woken():
    thread = Counting(None)
    thread.open()
    assert thread.did_a_round()
    assert thread.is_alive
    thread.wake()
    assert thread.did_a_round()
    thread.close()


def test_a_round_that_is_due_needs_no_waking():
    thread = Counting(0.01)
    thread.open()
    assert all(thread.did_a_round() for _ in range(3))
    thread.close()


def test_closing_ends_a_thread_that_waits():
    thread = Counting(None)
    thread.open()
    assert thread.did_a_round()
    thread.close()
    assert not thread.is_alive
    assert not thread.rounds.acquire(blocking=False)
