"""Patience with files that another program has open for a moment: a virus scanner, an indexer, a backup."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from typing import TypeVar

WAITS: bool = sys.platform == "win32"
"""Windows renames and removes no file meanwhile, and no folder around it; other systems do."""

PATIENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.05

Answer = TypeVar("Answer")


def patiently(act: Callable[[], Answer]) -> Answer:
    """Rename or remove something, again and again for `PATIENCE_SECONDS` where the system says that it is held.

    Raises:
        OSError: as `act` does, at once where the system is not Windows or the reason is another.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except OSError as error:
            if not (WAITS and _is_held(error)) or time.monotonic() >= deadline:
                raise
        time.sleep(PAUSE_SECONDS)


def _is_held(error: OSError) -> bool:
    """A removed file keeps its name until the last program closes it: until then its folder is not empty."""
    return isinstance(error, PermissionError) or error.errno == errno.ENOTEMPTY
