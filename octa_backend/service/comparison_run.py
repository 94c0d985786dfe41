"""Several models on the same scans of one dataset: no database, no network. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.errors import OctaError
from octa_backend.service.comparison_table import COMPARED, ComparedModel, ComparisonTable
from octa_backend.service.evaluation_data import Division, EvaluatedZip, divide
from octa_backend.service.evaluation_model import EvaluatedModel, open_model
from octa_backend.service.evaluation_run import EvaluationOptions, EvaluationRun, design_evaluation
from octa_backend.training.evaluation_report import MetricSummary
from octa_backend.training.ignored import dataset_class


@dataclass(frozen=True, slots=True)
class TimedModel(EvaluatedModel):
    """A model that notes how long each scan took, seconds."""

    seconds: list[float] = field(default_factory=list)

    def probabilities(self, image: NDArray[np.generic], spacing_mm: Sequence[float] = ()) -> NDArray[np.float32]:
        """As `EvaluatedModel.probabilities`."""
        start = time.perf_counter()
        found = EvaluatedModel.probabilities(self, image, spacing_mm)
        self.seconds.append(time.perf_counter() - start)
        return found


def scans_to_compare(data: EvaluatedZip, cards: Sequence[Mapping[str, Any]], split: str) -> tuple[int, ...]:
    """The scans that every model is computed on.

    Args:
        data: the dataset.
        cards: of the models.
        split: "all"; or "test" or "val": the dataset's official scans of this split, or where it has none, those of
            the first model that was trained on this dataset.

    Raises:
        OctaError: there are none.
    """
    entries = data.store.manifest.scans
    if split == "all":
        return tuple(range(len(entries)))
    official = tuple(index for index, entry in enumerate(entries) if entry.split == split)
    own = (division.splits[split] for card in cards if (division := divide(data, card)).own)
    indices = official or next((found for found in own if found), ())
    if not indices:
        raise OctaError(f"{data.name} has no scans for {split}; choose another split, or all")
    return indices


def compare(
    folders: Sequence[Path],
    cards: Sequence[Mapping[str, Any]],
    data: EvaluatedZip,
    indices: tuple[int, ...],
    split: str,
    device: str,
    on_scan: Callable[[str, str], None],
) -> ComparisonTable:
    """Score each model on the same scans, one model in memory at a time.

    Args:
        folders: of the models.
        cards: theirs.
        data: the dataset.
        indices: of the scans, see `scans_to_compare`.
        split: what they are called.
        device: the `device` setting.
        on_scan: is told model and scan after each scan; what it raises breaks off.

    Raises:
        IncompatibleCheckpoint: a model cannot be loaded.
        ModelDoesNotFit: a model has other classes than the dataset.
    """
    rows, unit, used = [], "", ""
    for folder, card in zip(folders, cards, strict=True):
        opened = open_model(folder, device)
        model = TimedModel(opened.name, opened.card, opened.plan, opened.networks)
        run = _design(model, data, indices, split)
        unit, used = run.scale.unit, model.plan.device
        report = run.run(lambda scan, name=folder.name: on_scan(name, scan)).report  # type: ignore[misc]
        metrics = {name: _numbers(report.summary[name]) for name in COMPARED}
        classes: list[dict[str, float] | None] = [None] * (data.store.manifest.classes - 1)
        for index, summary in enumerate(report.class_summaries, start=1):
            classes[dataset_class(index, run.ignore_index) - 1] = _numbers(summary["dice"])
        rows.append(_row(model, card, run.division, indices, metrics, classes))
    names = [data.store.manifest.scans[index].name for index in indices]
    return ComparisonTable(data.name, split, names, unit, used, rows)


def _design(model: EvaluatedModel, data: EvaluatedZip, indices: tuple[int, ...], split: str) -> EvaluationRun:
    """The evaluation of a model on scans that were chosen for all models."""
    whole = design_evaluation(model, data, EvaluationOptions(split="all"))
    return replace(whole, split=split, indices=indices)


def _row(
    model: TimedModel,
    card: Mapping[str, Any],
    division: Division,
    indices: tuple[int, ...],
    metrics: Mapping[str, Mapping[str, float] | None],
    classes: Sequence[Mapping[str, float] | None],
) -> ComparedModel:
    trained_on, chosen_on = seen_scans(division, indices)
    warm = model.seconds[1:] or model.seconds
    codes = {"trained_on_these_scans": trained_on, "epoch_chosen_on_these_scans": chosen_on}
    return ComparedModel(
        model_id=model.name,
        network=card["network"],
        members=len(model.networks),
        parameters=sum(weight.numel() for network in model.networks for weight in network.parameters()),
        milliseconds_per_scan=1000 * median(warm),
        metrics=metrics,
        classes=classes,
        trained_on=trained_on,
        chosen_on=chosen_on,
        warnings=tuple(code for code, count in codes.items() if count),
    )


def seen_scans(division: Division, indices: tuple[int, ...]) -> tuple[int, int]:
    """On how many of the scans a model was trained, and on how many its epoch was chosen; 0 of another dataset's."""
    if not division.own:
        return 0, 0
    trained, chosen = (len(set(indices) & set(division.splits[name])) for name in ("train", "val"))
    return trained, chosen


def _numbers(summary: MetricSummary | None) -> dict[str, float] | None:
    return None if summary is None else {"mean": summary.mean, "std": summary.std, "scans": summary.scans}
