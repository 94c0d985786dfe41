"""How long an epoch waited for its batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

Batch = TypeVar("Batch")

STALL = 5.0
"""A batch that took over so many times the median to come is a stall, unless even so it is quicker than a step."""


@dataclass(slots=True)
class BatchTimes:
    """Measures the batches of an epoch.

    Attributes:
        clock: seconds, for tests.
        waited: seconds until each batch was there.
        steps: seconds from asking for a batch to asking for the next.
    """

    clock: Callable[[], float] = time.perf_counter
    waited: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, timed; what is done with one counts until the next is asked for."""
        iterator = iter(batches)
        while True:
            start = self.clock()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited.append(self.clock() - start)
            yield batch
            self.steps.append(self.clock() - start)

    def stalls(self) -> int:
        """How many batches took over `STALL` times the median to come, and longer than a whole step usually takes."""
        if not self.steps:
            return 0
        limit = max(STALL * median(self.waited), median(self.steps))
        return sum(seconds > limit for seconds in self.waited)
