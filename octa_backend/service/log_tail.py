"""The end of a log file, without reading the whole of it."""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 20
TAIL_BYTES = 16 * 2**10


def last_lines(path: Path, count: int = TAIL_LINES) -> list[str]:
    """The last lines of a text file; none where it does not exist."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text.splitlines()[-count:]
