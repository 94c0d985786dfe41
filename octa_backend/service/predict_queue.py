"""How many predictions are answered or wait at the same time, and when to come back where that is too many."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from octa_backend.errors import TooManyPredictions

THREADS = 16
"""Predictions that are decoded, computed and drawn at the same time; apart from the threads of the other routes, which
would else wait behind predictions."""
LONGEST_RETRY_SECONDS = 60
FIRST_GUESS_SECONDS = 1.0  # that a request takes, until one was measured
LONGEST_GIVING_WAY_SECONDS = 2.0
"""So long a scan of a prediction job waits for requests to end; with more of them all the time, it is next then."""
MEMORY = 0.9  # share of the mean over earlier requests in the next mean


class PredictQueue:
    """Counts the requests under way. Safe to use from several threads.

    Args:
        places: how many there may be.

    Attributes:
        threads: the limit on the threads in which they are answered.
    """

    def __init__(self, places: int) -> None:
        self.threads = anyio.CapacityLimiter(THREADS)
        self._places = places
        self._taken = 0
        self._mean_seconds = FIRST_GUESS_SECONDS
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)

    def require_place(self) -> None:
        """Refuse a request before its scans are received, where there is no place for it.

        Raises:
            TooManyPredictions: all places are taken.
        """
        with self._lock:
            self._refuse_where_full()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place until the block ends.

        Raises:
            TooManyPredictions: all are taken.
        """
        with self._lock:
            self._refuse_where_full()
            self._taken += 1
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
                if self._taken == 0:
                    self._idle.notify_all()
                self._mean_seconds = MEMORY * self._mean_seconds + (1 - MEMORY) * (time.monotonic() - start)

    def give_way(self, seconds: float = LONGEST_GIVING_WAY_SECONDS) -> None:
        """Wait until no request is under way, but no longer than `seconds`: for what is computed in the background."""
        with self._idle:
            self._idle.wait_for(lambda: self._taken == 0, seconds)

    def _refuse_where_full(self) -> None:
        if self._taken < self._places:
            return
        # A request keeps its place for so long on average, so by then most of those before it are gone.
        seconds = min(LONGEST_RETRY_SECONDS, max(1, math.ceil(self._mean_seconds)))
        raise TooManyPredictions(
            f"{self._taken} predictions are under way, the most this server takes at once; ask again in {seconds} s",
            seconds,
        )
