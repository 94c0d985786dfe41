"""What the checks notice: `Finding`, and the `Remedy` it may propose. Text comes from `messages` when it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters: an error makes the result useless, a warning makes it worse."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Remedy:
    """A named change of a dataset or of a `TrainConfig` that can be applied.

    Attributes:
        code: stable name, a key of `messages.REMEDY_TITLES`.
        changes: fields of `TrainConfig` and their new values; the placeholders of the title are its keys.
        from_checkpoint: whether a run that is under way goes on from its last checkpoint with the changes, or begins
            anew; None for a remedy of a dataset or of a run that has not begun.
    """

    code: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    from_checkpoint: bool | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the checks noticed.

    Attributes:
        code: stable name, a key of `messages.MESSAGES`.
        severity: error, warning or info.
        evidence: the numbers behind it, JSON-serialisable; the message's placeholders are its keys.
        scans: names of the scans or files concerned, the first `MAX_SCANS` of them.
        epoch: the epoch it was noticed in, or None for a finding about data.
        remedy: what would help, or None.
    """

    code: str
    severity: Severity
    evidence: Mapping[str, Any] = field(default_factory=dict)
    scans: tuple[str, ...] = ()
    epoch: int | None = None
    remedy: Remedy | None = None


def verdict_of(findings: Iterable[Finding]) -> str:
    """`errors`, `warnings` or `clean`; infos are clean."""
    severities = {finding.severity for finding in findings}
    return "errors" if Severity.ERROR in severities else "warnings" if Severity.WARNING in severities else "clean"


MAX_SCANS = 20
"""How many scans a finding names; its evidence holds the full count."""


def finding_about_files(
    code: str, severity: Severity, details: Mapping[str, str], remedy: Remedy | None = None, **evidence: Any
) -> Finding:
    """Group one kind of fault over many files into one finding.

    Args:
        code: the finding's code.
        severity: its severity.
        details: file name -> what was found there, in words or numbers.
        remedy: what would help, or None.
        evidence: further evidence.

    Returns:
        A finding that names the first `MAX_SCANS` files, with `count`, `example` and `files` as evidence.
    """
    named = dict(sorted(details.items())[:MAX_SCANS])
    first, found = next(iter(named.items()))
    example = f"{first} ({found})" if found else first
    facts = {"count": len(details), "example": example, "files": named, **evidence}
    return Finding(code, severity, facts, tuple(named), remedy=remedy)
