"""The report of a cross-validation: plain data; `to_json` is `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

from octa_backend.training.evaluation_report import EvaluationReport, as_json


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One fold: its model, the best epoch, how many scans it validated, and their mean Dice (0: no pixel counts)."""

    fold: int
    model: str
    epoch: int
    scans: int
    dice: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The folds' mean Dice: mean over folds, population standard deviation, the lowest and the highest."""

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per fold."""
        return cls(fmean(values), pstdev(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Everything that a cross-validation found.

    Attributes:
        model: the ensemble's name.
        folds: in order.
        out_of_fold: each scan as scored by the one network that was not trained on it.
        test: the official test split as scored by the ensemble; None where there is none.
        config: the configuration of all folds, as resolved for the first.
    """

    model: str
    folds: tuple[FoldResult, ...]
    out_of_fold: EvaluationReport
    test: EvaluationReport | None
    config: Mapping[str, Any]

    @property
    def dice(self) -> Spread:
        """How the folds differ."""
        return Spread.of([fold.dice for fold in self.folds])

    def to_json(self) -> str:
        """The report as the text of `report.json`."""
        content = {
            "model": self.model,
            "folds": [asdict(fold) for fold in self.folds],
            "dice_over_folds": asdict(self.dice),
            "out_of_fold": self.out_of_fold.to_dict(),
            "test": self.test.to_dict() if self.test else None,
            "config": dict(self.config),
        }
        return as_json("cross_validation", content)
