"""Processor seconds of a training: what it computed, however many others used the machine at the same time.

Those of all threads of this process, user and system. On a GPU they would say nothing of the training: none are told.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import Numbers

if TYPE_CHECKING:
    from octa_backend.training.events import Event

PROCESSOR_FILE = "processor.jsonl"


def tells_processor_seconds(device: str) -> bool:
    """Whether a training on a device (as torch names it) computes on this process's processors."""
    return device == "cpu"


class TrainingClock:
    """Notes in a file what the training of each epoch took, without validation; asked and told as the trainer does it.

    A run that goes on in another process goes on in the same file. The first batch of the first epoch of a process is
    left out: it is made before the trainer asks for the first time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since: float | None = None
        self._trained = 0.0

    def should_stop(self) -> bool:
        """Never; the first time is before the first step."""
        if self._since is None:
            self._since = time.process_time()
        return False

    def hear(self, event: Event) -> None:
        """Add a step to its epoch; note an epoch at its end."""
        from octa_backend.training.events import EpochFinished, StepFinished

        now = time.process_time()
        if isinstance(event, StepFinished):
            if event.step == 1:
                self._trained = 0.0  # of an epoch that was broken off, too
            self._trained += now - (now if self._since is None else self._since)
            self._since = now
        elif isinstance(event, EpochFinished):
            if self._trained:  # else told again by a run that goes on
                self._note(event.epoch)
            self._trained, self._since = 0.0, now
        else:
            self._since = None  # what is done beside the steps, such as the checks before the first one

    def _note(self, epoch: int) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            # The line break comes first: what a killed process left half-written spoils no other line.
            file.write("\n" + json.dumps({"epoch": epoch, "seconds": self._trained}))


def with_processor_seconds(epochs: Sequence[Numbers], path: Path) -> list[Numbers]:
    """Epochs with the processor seconds of training up to their end, as far as those of all epochs before are noted.

    Of an epoch that was noted several times the last one counts, as it does in the history.
    """
    noted, taken, found = _read(path), 0.0, []
    for epoch in epochs:
        taken += noted.get(epoch["epoch"], math.nan)  # from here on nothing is known
        found.append(dict(epoch) if math.isnan(taken) else {**epoch, "processor_seconds": taken})
    return found


def _read(path: Path) -> dict[int, float]:
    noted = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue
        noted[one["epoch"]] = one["seconds"]
    return noted
