"""What pydantic finds wrong, in a person's words: which field, what is wrong, and which name was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

MOST_TOLD = 10
"""Faults of one text; what has more is something else altogether."""


def faults_in(error: ValidationError, model: type[BaseModel], *, is_flat: bool = False) -> str:
    """All that is wrong, as `field: what`, separated by semicolons.

    Args:
        error: of a validation of `model`.
        model: whose fields are known, for names that are not.
        is_flat: none of its fields has fields of its own: what follows a name is the type that was tried.
    """
    told = []
    for fault in error.errors()[:MOST_TOLD]:
        place = ".".join(map(str, fault["loc"][:1] if is_flat else fault["loc"]))
        is_own_name = fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
        what = f"there is no such field; {hint(place, model.model_fields)}" if is_own_name else fault["msg"]
        told.append(f"{place}: {what}" if place else what)
    return "; ".join(told)


def hint(name: str, known: Iterable[str]) -> str:
    """The known names that are near an unknown one; all of them where none is."""
    names = list(known)
    near = get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
