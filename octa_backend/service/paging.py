"""Pages of long answers: `limit` rows, and an opaque cursor for the next ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

from octa_backend.errors import InvalidCursor

Row = TypeVar("Row")

MAX_WHOLE = 2**31 - 1
"""The largest position: what every database's integers hold."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, and the cursor with which the next ones are asked for; None on the last page."""

    rows: Sequence[Row]
    next_cursor: str | None

    @classmethod
    def cut(cls, rows: Sequence[Row], limit: int, cursor: Callable[[Row], str]) -> Self:
        """Make a page of `limit` rows out of up to `limit + 1` that were read."""
        return cls(rows[:limit], cursor(rows[limit - 1]) if len(rows) > limit else None)


def cursor_of(*position: str | int) -> str:
    """An opaque text for the position of a row."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def whole(part: Any) -> int:
    """A whole number that a database can hold."""
    if not isinstance(part, int) or not 0 <= part <= MAX_WHOLE:
        raise ValueError(f"{part!r} is not a position")
    return part


def moment(part: Any) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(part).astimezone(UTC)


def text(part: Any) -> str:
    """A text that can be encoded."""
    found = str(part)
    found.encode()
    return found


def read_cursor(cursor: str, *types: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The position in a cursor, each part through its type.

    Raises:
        InvalidCursor: it is not one that this server gave.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return tuple(kind(part) for kind, part in zip(types, parts, strict=True))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidCursor(f"{cursor!r} is not a cursor of this list; take next_cursor of its last page") from error
