"""A thread of the API process that does its rounds until it is closed."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class RoundThread(ABC):
    """Does a round, waits until the next one is due or somebody wakes it, and so on."""

    def __init__(self, name: str) -> None:
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def open(self) -> None:
        """Begin with the first round."""
        self._thread.start()

    def close(self) -> None:
        """End with the present round; a round that is long looks at `_closing`."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it does its rounds."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Do a round now: there is something new."""
        self._wake.set()

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._round())
            self._wake.clear()

    @abstractmethod
    def _round(self) -> float | None:
        """Do one round; after how many seconds the next is due, None: when woken. What it raises ends the thread."""
