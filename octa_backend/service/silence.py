"""How long workers have not been heard of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MOST_GAP_SECONDS = 30.0
"""Who did not look for so long was asleep, as the machine with its workers was."""


class Silence:
    """Measures by a clock that nobody sets, from when what a worker tells was seen to change.

    Heartbeats are times of day: once the machine has slept or its clock was set, all of them are long ago.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looked = clock()
        self._heard: dict[str, tuple[object, float]] = {}

    def look(self, told: Mapping[str, object]) -> dict[str, float]:
        """For how many seconds each attempt, by its id, has told the same."""
        moment = self._clock()
        before = self._heard if moment - self._looked <= MOST_GAP_SECONDS else {}
        self._looked, self._heard = moment, {}
        for attempt_id, word in told.items():
            heard, since = before.get(attempt_id, (None, moment))
            self._heard[attempt_id] = (word, since if heard == word else moment)
        return {attempt_id: moment - since for attempt_id, (_, since) in self._heard.items()}
