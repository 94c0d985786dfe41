"""The end of a log file, without reading the whole of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from octa_backend.training.log_lines import is_step_line

MAX_LINES = 10_000
"""Most lines of a page."""

PAGE_BYTES = 2 * 2**20
"""Most bytes of a page, whatever the length of its lines: about 10,000 lines of steps."""

TAIL_LINES, TAIL_CHARACTERS = 20, 16 * 2**10
"""What is kept of the log of an attempt that failed."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some lines of a log, and the byte of the file at which they begin."""

    text: str
    start: int


def read_page(path: Path, lines: int, before: int | None = None) -> LogPage:
    """The last lines of a log, or of what stands before one of its bytes; at most `PAGE_BYTES`.

    Args:
        path: a text file; one that does not exist has no lines.
        lines: how many, at most.
        before: the `start` of the page that comes after this one; None is the end of the log.
    """
    if not path.exists():
        return LogPage("", 0)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = size if before is None else min(before, size)
        first = file.seek(max(0, end - PAGE_BYTES))
        found = file.read(end - first).splitlines(keepends=True)
    if first and len(found) > 1:
        found = found[1:]  # the first one began before what was read
    kept = found[-lines:]
    return LogPage(b"".join(kept).decode("utf-8", "replace"), end - sum(map(len, kept)))


def last_lines(path: Path, count: int = TAIL_LINES) -> list[str]:
    """The last lines of a log that may explain how an attempt ended: none of the lines of its steps."""
    lines = [line for line in read_page(path, MAX_LINES).text.splitlines() if not is_step_line(line)]
    return "\n".join(lines)[-TAIL_CHARACTERS:].splitlines()[-count:]
