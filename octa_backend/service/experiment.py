"""One run's plan, data, test score and card, without database: the same for the worker and for the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from octa_backend.data.normalise import Normalisation
from octa_backend.data.splits import Splits
from octa_backend.data.store import DatasetStore, Manifest
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.training import offset_findings, split_findings
from octa_backend.inference.distribution import features_of
from octa_backend.inference.distribution import summarise as summarise_features
from octa_backend.inference.model_card import CARD_FORMAT, NOTICE
from octa_backend.inference.pictures import png
from octa_backend.inference.volume_distribution import spacing_of_file, summarise_volumes, volume_features
from octa_backend.service.division import divide, require_division
from octa_backend.service.model_service import versions
from octa_backend.storage.files import write_aside
from octa_backend.training.augmentation_sheet import augmentation_sheet
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.class_balance import class_pixels
from octa_backend.training.complete import complete_plan
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.evaluation_report import CURVES, ScanResult, finite
from octa_backend.training.grey_levels import measure_greys
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.mask_offset import measure_mask_offset
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.plan_draft import Reason
from octa_backend.training.precision import pick_device, probe
from octa_backend.training.trainer import Outcome

AUGMENTATION_FILE = "augmentation.png"

MOST_SCANS_KNOWN = 200
"""So many training scans, evenly spread over the dataset, show what all are like; each takes milliseconds."""

BOUND_TO_WEIGHTS = ("model", "normalisation")
"""What must not be found anew for weights that are there, nor for each fold: folds predict together, and a scan more or
less could decide otherwise."""

KEPT = "as the weights that are there were trained, this training's own or those of the first fold"

VALIDATED = ("loss", "dice", "iou", "precision", "recall")
"""What a card says of its model's epoch on the validation scans."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which dataset a model was trained on."""

    file_id: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is computed: a plan on divided data. `is_fold`: it is one of several, so its test split is left alone."""

    plan: Plan
    data: TrainingData
    splits: Splits
    is_fold: bool = False

    def describe(self) -> str:
        """One line for the log."""
        counts = ", ".join(f"{len(getattr(self.splits, name))} {name}" for name in ("train", "val", "test"))
        grouped = "by patient" if self.splits.grouped_by_patient else "not by patient"
        plan = self.plan
        return f"{plan.config.model} on {plan.device} in {plan.config.precision}; scans: {counts}, divided {grouped}"

    def findings(self) -> list[Finding]:
        """What is noticed before the first epoch."""
        shared = bool(set(self.splits.train) & set(self.splits.val))
        found = split_findings(len(self.splits.train), len(self.splits.val), shared=shared)
        offset = self.plan.fingerprint.mask_offset if self.plan.fingerprint is not None else None
        if offset is not None and offset.is_beside:
            found += offset_findings(offset.rows, offset.columns, offset.scans)
        return found


def design(
    store: DatasetStore,
    config: TrainConfig,
    wanted_device: str,
    earlier: Plan | None,
    should_stop: ShouldStop = lambda: False,
    fold: int | None = None,
    initial: InitialWeights | None = None,
    trained: Plan | None = None,
) -> Experiment:
    """Divide the scans and resolve the plan.

    Args:
        store, config, wanted_device, earlier, fold, trained: as in `sketch`.
        should_stop: asked while the learning rate is searched for, where it is `auto`.
        initial: weights that the training begins with.
    """
    run = sketch(store, config, wanted_device, earlier, fold, trained)
    return replace(run, plan=complete_plan(run.plan, run.data, should_stop, initial))


def sketch(
    store: DatasetStore,
    config: TrainConfig,
    wanted_device: str,
    earlier: Plan | None,
    fold: int | None = None,
    trained: Plan | None = None,
) -> Experiment:
    """Divide the scans and resolve what no trial is needed for.

    Args:
        store: the dataset.
        config: as the user gave it.
        wanted_device: the `device` setting.
        earlier: the plan of an earlier attempt; it is kept on the same device, because a new measurement could
            decide otherwise halfway. On another device what it found for the data is kept.
        fold: which of `config.folds` validates; None divides as `config.val_fraction` says.
        trained: without `earlier`, the plan of the weights that the run goes on from, or of another fold's: what is
            bound to them stays where the config leaves it open.

    Raises:
        InvalidConfig: there are fewer patients, or scans, than folds; or scans that `trained` saw would validate.
    """
    splits = divide(store, config, fold)
    if trained is not None:
        require_division(store, config, trained.config, fold)
    device = pick_device(wanted_device)
    if earlier is not None and earlier.device == str(device):
        plan = earlier.with_config(config)
    else:
        finder = earlier or _finder(store, config, wanted_device, fold, trained)
        found = finder.found_for(config) if finder else {}
        if finder is not earlier:
            found = {name: value for name, value in found.items() if name in BOUND_TO_WEIGHTS}
        plan = make_plan(
            config.model_copy(update=found),
            store.manifest,
            probe(device),
            lambda: class_pixels(store, splits.train),
            splits=splits,
            measure_greys=lambda: measure_greys(store, splits.train, config.ignore_index),
            measure_offset=lambda: measure_mask_offset(store, splits.train, config.ignore_index),
        )
        plan = plan.with_reasons_of(finder, found) if finder else plan
    data = TrainingData(store, splits.train, splits.val, splits.test)
    return Experiment(plan, data, splits, is_fold=fold is not None)


def _finder(
    store: DatasetStore, config: TrainConfig, wanted_device: str, fold: int | None, trained: Plan | None
) -> Plan | None:
    """The plan that tells what is bound to weights, where this run does not find it itself; see `sketch`."""
    if trained is not None:
        reasons = [Reason(field=name, value=getattr(trained.config, name), reason=KEPT) for name in BOUND_TO_WEIGHTS]
        return trained.model_copy(update={"reasons": tuple(reasons)})
    if fold is None or fold == 1:
        return None
    return sketch(store, config, wanted_device, None, fold=1).plan


def published(run: Experiment, checkpoints: Checkpoints) -> Experiment:
    """The same with the plan of its best epoch, which a treatment may have changed since, or before."""
    found = checkpoints.best_plan() if checkpoints.index is not None else None
    return replace(run, plan=Plan.model_validate(found)) if found is not None else run


def keep_augmentation_sheet(run: Experiment, folder: Path) -> None:
    """Draw what the network will see into a folder, once; nothing where nothing is augmented."""
    path = folder / AUGMENTATION_FILE
    if run.plan.config.augmentation == "none" or path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(path, png(augmentation_sheet(run.data, run.plan)))


def summarise(tested: Sequence[ScanResult]) -> dict[str, Any] | None:
    """Mean and spread of the test scores over scans in which a pixel counts; None where none was scored."""
    scored = [scan.metrics.overall for scan in tested if scan.metrics.overall.dice is not None]
    if not scored:
        return None
    summary: dict[str, Any] = {"scans": len(scored)}
    for metric in ("dice", "iou", "precision", "recall"):
        values = [getattr(metrics, metric) for metrics in scored]
        summary[metric] = fmean(values)
        summary[f"{metric}_std"] = pstdev(values)
    return summary


def dice_per_scan(tested: Sequence[ScanResult]) -> dict[str, float]:
    """The Dice of each test scan in which a pixel counts."""
    return {scan.name: dice for scan in tested if (dice := scan.metrics.overall.dice) is not None}


def scan_statistics(store: DatasetStore, indices: Sequence[int], normalisation: Normalisation) -> dict[str, Any]:
    """What the training scans of a model are like, for its card; see `distribution` and `volume_distribution`."""
    chosen = indices[:: -(-len(indices) // MOST_SCANS_KNOWN)]
    manifest = store.manifest
    if manifest.spatial_dims == 3:
        found = (
            volume_features(store.image(index), normalisation, spacing_of_file(manifest.scans[index]))
            for index in chosen
        )
        return summarise_volumes(found, manifest.channels, normalisation)
    return summarise_features(features_of(store.image(index)) for index in chosen)


def make_card(
    run: Experiment,
    source: Source,
    outcome: Outcome,
    tested: Sequence[ScanResult],
    history: Sequence[Mapping[str, Any]] = (),
    findings: Iterable[Finding] = (),
    tuned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is to be known of a model; its fields are those of `inference.model_card.ModelCard`.

    Args:
        run: with the plan of its best epoch.
        source: the dataset.
        outcome: with the best epoch.
        tested: scores of the test scans.
        history: the epochs, with the fields of `events.EpochFinished`.
        findings: what was noticed of the data and the run.
        tuned: the threshold that was tuned on the validation scans, see `job_report.Scored`.
    """
    manifest, plan = run.data.store.manifest, run.plan
    return {
        "format": CARD_FORMAT,
        **_network_facts(plan, manifest),
        "tuned_threshold": dict(tuned) if tuned else None,
        "scan_statistics": scan_statistics(run.data.store, run.splits.train, plan.normalisation),
        "dataset": {"file_id": source.file_id, "name": source.name, "sha256": source.sha256},
        "plan": plan.model_dump(mode="json"),
        "splits": {
            "grouped_by_patient": run.splits.grouped_by_patient,
            **{name: [manifest.scans[i].name for i in getattr(run.splits, name)] for name in ("train", "val", "test")},
        },
        "best": {"epoch": outcome.best.epoch, "val_dice": outcome.best.val_dice} if outcome.best else None,
        "validation": validation_of(history, outcome.best.epoch) if outcome.best else None,
        "test": summarise(tested),
        "test_dice_per_scan": dice_per_scan(tested),
        "curves": curves_of(history),
        "findings": [told(finding) for finding in findings],
        "versions": versions(),
        "licence": None,
        "notice": NOTICE,
    }


def _network_facts(plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """What a card says of the network, and of the scans that it expects."""
    return {
        "network": plan.config.model,
        "spatial_dims": manifest.spatial_dims,
        "residual": plan.config.residual,
        "network_shape": asdict(plan.network_shape) if plan.network_shape is not None else None,
        "patch_shape": list(plan.patch_shape),
        "modalities": list(manifest.modalities),
        "common_spacing_mm": list(manifest.common_spacing_mm),
        "channels": plan.channels,
        "classes": plan.classes,
        "region_order": list(plan.region_order),
        "ignore_index": plan.config.ignore_index,
        "labels": [asdict(label) for label in manifest.labels],
        "mask_values": list(manifest.mask_values),
        "normalisation": plan.config.normalisation,
    }


def validation_of(history: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, Any] | None:
    """Loss and means over validation scans of an epoch; None where nothing is known of it."""
    report = next((one for one in history if one["epoch"] == epoch), None)
    return None if report is None else {name: finite(report[f"val_{name}"]) for name in VALIDATED}


def curves_of(history: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Epoch by epoch, the numbers that `CURVES` names; what is not finite is None."""
    return {name: [finite(epoch.get(name)) for epoch in history] for name in ("epoch", *CURVES)}


def told(finding: Finding) -> dict[str, Any]:
    """A finding as a card keeps it: what was noticed, in English."""
    described = describe(finding, "en")
    return {name: described[name] for name in ("code", "severity", "epoch", "message")}
