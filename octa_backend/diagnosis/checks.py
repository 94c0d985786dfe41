"""What a check of a dataset is."""

from __future__ import annotations

from dataclasses import dataclass

from octa_backend.diagnosis.text import Text


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is checked.

    Attributes:
        section: "files", "encoding", "content" or "leakage".
        codes: of the findings that it can give.
        passed: what is so where it gives none of them.
    """

    section: str
    codes: tuple[str, ...]
    passed: Text
