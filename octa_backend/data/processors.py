"""How many processors this process may use."""

from __future__ import annotations

import os


def processors() -> int:
    """Processors that the system lets this process run on; not all systems tell, then all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
