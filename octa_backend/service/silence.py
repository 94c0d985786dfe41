"""How long workers have not been heard of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from octa_backend.storage.tables import Attempt

MOST_GAP_SECONDS = 30.0
"""Who did not look for so long was asleep, as the machine with its workers was."""


class Silence:
    """Measures by a clock that nobody sets, from when a heartbeat was seen to change.

    The heartbeats are times of day: once the machine has slept or its clock was set, all of them are long ago.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looked = clock()
        self._heard: dict[str, tuple[datetime, float]] = {}

    def look(self, attempts: Sequence[Attempt]) -> dict[str, float]:
        """For how many seconds each attempt, by its id, has not been heard of."""
        moment = self._clock()
        before = self._heard if moment - self._looked <= MOST_GAP_SECONDS else {}
        self._looked, self._heard = moment, {}
        for attempt in attempts:
            heartbeat, since = before.get(attempt.id, (None, moment))
            self._heard[attempt.id] = (attempt.heartbeat_at, since if heartbeat == attempt.heartbeat_at else moment)
        return {attempt_id: moment - since for attempt_id, (_, since) in self._heard.items()}
