"""How many of the planted faults the right findings name, and what else they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planting import Planted

from octa_backend.diagnosis.findings import MAX_SCANS, Finding


@dataclass
class Score:
    """Of one fault over all its runs on one dataset.

    Attributes:
        planted, found: scans; runs for a fault of the whole dataset.
        false: scans that the right finding names without reason.
        others: other errors and warnings that the sound dataset does not have, with the number of runs.
    """

    planted: int = 0
    found: int = 0
    false: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def add(self, other: Score) -> None:
        self.planted += other.planted
        self.found += other.found
        self.false += other.false
        self.others += other.others

    @property
    def recall(self) -> str:
        return f"{self.found / self.planted:.2f}" if self.planted else "–"


Row = tuple[str, str, Mapping[str, Score]]
"""Of a table: a finding, what was planted, and the score on each dataset."""


def rate(planted: Planted, found: Sequence[Finding]) -> Score:
    if not planted.expected:
        return Score(planted=1, found=bool(found))
    named = {scan for finding in found for scan in finding.scans}
    wanted = min(MAX_SCANS, len(planted.expected))  # a finding names no more
    return Score(planted=wanted, found=len(named & planted.expected), false=len(named - planted.expected))


def table(found: Sequence[Row], names: Sequence[str]) -> list[str]:
    lines = [
        "| Finding | Fault | " + " | ".join(names) + " | all | false alarms | other findings |",
        "|---|---|" + "---|" * (len(names) + 3),
    ]
    for code, label, scores in found:
        total = Score()
        for score in scores.values():
            total.add(score)
        cells = " | ".join(f"{scores[name].recall}" for name in names)
        others = ", ".join(f"`{other}` {count}" for other, count in total.others.most_common()) or "none"
        figures = f"**{total.recall}** ({total.planted}) | {total.false} | {others}"
        lines.append(f"| `{code}` | {label} | {cells} | {figures} |")
    return lines
