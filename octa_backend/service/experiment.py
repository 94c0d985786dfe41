"""One run's plan, data, test score and card, without database: the same for the worker and for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from octa_backend.data.splits import Splits, assign_splits
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.training import split_findings
from octa_backend.inference.pictures import png
from octa_backend.storage.files import write_aside
from octa_backend.training.augmentation_sheet import augmentation_sheet
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Checkpoints, load_weights
from octa_backend.training.class_balance import class_pixels
from octa_backend.training.complete import complete_plan
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation import Evaluated, ShouldStop, evaluate
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.losses import make_loss
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import pick_device, probe
from octa_backend.training.trainer import Outcome, build_network

AUGMENTATION_FILE = "augmentation.png"


@dataclass(frozen=True, slots=True)
class Source:
    """Which dataset a model was trained on."""

    file_id: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is computed: a plan on divided data."""

    plan: Plan
    data: TrainingData
    splits: Splits

    def describe(self) -> str:
        """One line for the log."""
        counts = ", ".join(f"{len(getattr(self.splits, name))} {name}" for name in ("train", "val", "test"))
        grouped = "by patient" if self.splits.grouped_by_patient else "not by patient"
        plan = self.plan
        return f"{plan.config.model} on {plan.device} in {plan.config.precision}; scans: {counts}, divided {grouped}"

    def findings(self) -> list[Finding]:
        """What is noticed before the first epoch."""
        shared = bool(set(self.splits.train) & set(self.splits.val))
        return split_findings(len(self.splits.train), len(self.splits.val), shared=shared)


def design(
    store: DatasetStore,
    config: TrainConfig,
    wanted_device: str,
    earlier: Plan | None,
    should_stop: ShouldStop = lambda: False,
    initial: InitialWeights | None = None,
) -> Experiment:
    """Divide the scans and resolve the plan.

    Args:
        store: the dataset.
        config: as the user gave it.
        wanted_device: the `device` setting.
        earlier: the plan of an earlier attempt; it is kept on the same device, because a new measurement could
            decide otherwise halfway.
        should_stop: asked while the learning rate is searched for, where it is `auto`.
        initial: weights that the training begins with.
    """
    splits = assign_splits(store.manifest.scans, config.val_fraction, config.seed)
    device = pick_device(wanted_device)
    if earlier is not None and earlier.device == str(device):
        plan = earlier.with_config(config)
    else:
        plan = make_plan(config, store.manifest, probe(device), lambda: class_pixels(store, splits.train))
        plan = plan.with_rate_of(earlier) if earlier else plan
    data = TrainingData(store, splits.train, splits.val, splits.test)
    return Experiment(complete_plan(plan, data, should_stop, initial), data, splits)


def keep_augmentation_sheet(run: Experiment, folder: Path) -> None:
    """Draw what the network will see into a folder, once; nothing where nothing is augmented."""
    path = folder / AUGMENTATION_FILE
    if run.plan.config.augmentation == "none" or path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(path, png(augmentation_sheet(run.data, run.plan)))


def score_test_split(run: Experiment, checkpoints: Checkpoints, should_stop: ShouldStop) -> list[Evaluated]:
    """Score the best checkpoint on the official test split; empty where there is none, or if asked to stop."""
    if not run.data.test:
        return []
    network = build_network(run.plan).eval()
    load_weights(network, checkpoints.best_weights())
    return evaluate(network, run.data, run.plan, make_loss(run.plan.config), run.data.test, should_stop) or []


def summarise(tested: list[Evaluated]) -> dict[str, Any] | None:
    """Mean and spread of the test scores over scans; None where none was scored."""
    if not tested:
        return None
    summary: dict[str, Any] = {"scans": len(tested)}
    for metric in ("dice", "iou", "precision", "recall"):
        values = [getattr(scan.score, metric) for scan in tested]
        summary[metric] = fmean(values)
        summary[f"{metric}_std"] = pstdev(values)
    return summary


def make_card(run: Experiment, source: Source, outcome: Outcome, tested: list[Evaluated]) -> dict[str, Any]:
    """What is to be known of a model."""
    scans, plan = run.data.store.manifest.scans, run.plan
    return {
        "network": plan.config.model,
        "channels": plan.channels,
        "classes": plan.classes,
        "normalisation": plan.config.normalisation,
        "dataset": {"file_id": source.file_id, "name": source.name, "sha256": source.sha256},
        "plan": plan.model_dump(mode="json"),
        "splits": {
            "grouped_by_patient": run.splits.grouped_by_patient,
            **{name: [scans[i].name for i in getattr(run.splits, name)] for name in ("train", "val", "test")},
        },
        "best": {"epoch": outcome.best.epoch, "val_dice": outcome.best.val_dice} if outcome.best else None,
        "test": summarise(tested),
        "test_dice_per_scan": {scan.name: scan.score.dice for scan in tested},
        "notice": "research use only",
    }
