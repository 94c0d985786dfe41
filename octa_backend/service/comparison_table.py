"""The outcome of a comparison: a row for each model, as data and as CSV. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

COMPARED = ("dice", "iou", "precision", "recall", "cldice", "hd95")
"""The metrics of a row, as `evaluation_report` names them."""

WARNINGS: Mapping[str, str] = {
    "trained_on_these_scans": "It was trained on {trained_on} of these scans: its numbers are too good.",
    "epoch_chosen_on_these_scans": (
        "Its epoch was chosen on {chosen_on} of these scans: its numbers are a little too good."
    ),
}


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model on the scans that all models were computed on.

    Attributes:
        model_id: or the folder's name.
        network: its name.
        members: how many networks its answer is the mean of.
        parameters: of all of them.
        milliseconds_per_scan: median over scans, from the scan as decoded to the probabilities; the first one, which
            warms up, is left out where there are more.
        metrics: mean, std and number of scans of each of `COMPARED`; None where a metric is not defined.
        classes: the Dice of each foreground class of the dataset, likewise; None for a class that no scan has, or that
            the model leaves out.
        trained_on, chosen_on: how many of the scans the model was trained on, and its epoch was chosen on.
        warnings: codes, see `WARNINGS`.
    """

    model_id: str
    network: str
    members: int
    parameters: int
    milliseconds_per_scan: float
    metrics: Mapping[str, Mapping[str, float] | None]
    classes: Sequence[Mapping[str, float] | None]
    trained_on: int
    chosen_on: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """Models on the same scans.

    Attributes:
        dataset: name of its zip.
        split: "test", "val" or "all".
        scans: names of the scans.
        unit: of `hd95`.
        device: that computed.
        models: in the order in which they were asked for.
    """

    dataset: str
    split: str
    scans: Sequence[str]
    unit: str
    device: str
    models: Sequence[ComparedModel]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, with a sentence for each warning."""
        content = asdict(self)
        for row in content["models"]:
            row["warnings"] = [{"code": code, "message": WARNINGS[code].format(**row)} for code in row["warnings"]]
        return content


def table_csv(table: Mapping[str, Any]) -> str:
    """A table that `to_dict` gave, as CSV with a line for each model; what is not defined is empty."""
    text = io.StringIO(newline="")
    classes = max((len(row["classes"]) for row in table["models"]), default=0)
    named = [*COMPARED, *(f"dice_class_{number}" for number in range(1, classes + 1))] if classes > 1 else [*COMPARED]
    head = ["model_id", "network", "members", "parameters", "milliseconds_per_scan", "scans", "trained_on", "chosen_on"]
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*head, *(f"{name}_{part}" for name in named for part in ("mean", "std"))])
    for row in table["models"]:
        found = [*(row["metrics"][name] for name in COMPARED), *(row["classes"] if classes > 1 else ())]
        numbers = [one[part] if one else "" for one in found for part in ("mean", "std")]
        facts = {**row, "scans": len(table["scans"])}
        rows.writerow([*(facts[name] for name in head), *numbers])
    return text.getvalue()
