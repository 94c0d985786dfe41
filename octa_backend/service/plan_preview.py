"""The plan for a zip or a folder of scans, without training on it: nothing of it stays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.service.experiment import sketch
from octa_backend.service.local_dataset import WAYS_OUT, take_in
from octa_backend.service.pretrained import from_machine
from octa_backend.service.start_service import StartOptions, judge
from octa_backend.settings import Settings
from octa_backend.storage.files import removed_after
from octa_backend.training.batches import TrainingData
from octa_backend.training.complete import first_network, settled
from octa_backend.training.config import TrainConfig
from octa_backend.training.memory_plan import MEMORY_SHARE
from octa_backend.training.plan import Plan
from octa_backend.training.precision import pick_device, probe
from octa_backend.training.step_time import step_seconds

SHOWN = (
    "model",
    "patch_size",
    "patch_growth",
    "batch_size",
    "epochs",
    "lr",
    "scheduler",
    "optimizer",
    "loss",
    "pos_weight",
    "augmentation",
    "normalisation",
    "precision",
    "foreground_oversampling",
)
"""Fields that are shown whether or not they were left open, in this order."""

LATER = {"lr": "left open: a range test finds it before the first epoch (octa train --find-lr shows it)"}
"""What only the training itself resolves."""


@dataclass(frozen=True, slots=True)
class PlannedField:
    """A field, what the plan has for it, and why."""

    field: str
    value: Any
    why: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a training would compute, and what it would take.

    Attributes:
        plan: complete, but for a learning rate that a range test would find.
        fields: every field that is worth a look, with its reason.
        findings: of the dataset, and of how it is divided.
        steps: optimizer steps of an epoch.
        epoch_seconds: of training alone, in the mean over the run, from one measured step; None where the device's
            memory would not hold it.
    """

    plan: Plan
    fields: tuple[PlannedField, ...]
    findings: tuple[Finding, ...]
    steps: int
    epoch_seconds: float | None


def preview(data: Path, config: TrainConfig, settings: Settings, options: StartOptions) -> Preview:
    """Check scans and plan a training on them in a temporary folder; of a cross-validation, that of the first fold.

    Args:
        data: the zip or the folder.
        config: what to compute.
        settings: limits and device.
        options: what to do where the checks find errors.

    Raises:
        as `local_dataset.open_dataset`, and as `first_network`.
    """
    with removed_after(Path(tempfile.mkdtemp(prefix="octa-plan-"))) as folder:
        dataset = folder / "dataset"
        findings = take_in(data, dataset, settings, options)
        config, changes = judge(findings, config, options, WAYS_OUT)
        # In a function of its own: Windows removes no file that is still mapped into memory.
        return _planned(dataset, config, changes, settings, findings)


def _planned(
    dataset: Path, config: TrainConfig, changes: dict[str, Any], settings: Settings, findings: Sequence[Finding]
) -> Preview:
    store = DatasetStore(dataset)
    completed = config.for_scans(store.manifest.spatial_dims)
    run = sketch(store, completed, settings.device, None, fold=1 if config.folds else None)
    plan = settled(run.plan, run.data)
    if initial := from_machine(settings, config.pretrained):
        first_network(plan, initial)  # so that weights which are not there, or do not fit, are told now
    steps = plan.steps(len(run.data.train))
    return Preview(
        plan=plan,
        fields=tuple(explained(plan, config, changes)),
        findings=(*findings, *run.findings()),
        steps=steps,
        epoch_seconds=_epoch_seconds(plan, run.data, steps) if _fits(plan, settings.device) else None,
    )


def _epoch_seconds(plan: Plan, data: TrainingData, steps: int) -> float:
    return steps * step_seconds(plan, data) * plan.growth.mean_share()


def _fits(plan: Plan, wanted_device: str) -> bool:
    memory = probe(pick_device(wanted_device)).memory_mib
    assert plan.estimate is not None, "settled makes it"
    return memory is None or plan.estimate.memory_mib <= MEMORY_SHARE * memory


def explained(plan: Plan, config: TrainConfig, changes: dict[str, Any]) -> Iterator[PlannedField]:
    """The fields of a plan that are worth a look: `SHOWN`, what was set, and all that have a reason.

    Args:
        plan: settled.
        config: as it was asked for.
        changes: fields that remedies set.
    """
    reasons = {reason.field: reason for reason in plan.reasons}
    given = [name for name in TrainConfig.model_fields if name in config.model_fields_set]
    for name in dict.fromkeys((*SHOWN, *given, *reasons)):
        value = reasons[name].value if name in reasons else getattr(plan.config, name)
        if name in reasons:
            yield PlannedField(name, value, reasons[name].reason)
        elif value == "auto":
            if name in LATER:
                yield PlannedField(name, value, LATER[name])
        elif name in changes:
            yield PlannedField(name, value, "set by a remedy")
        else:
            yield PlannedField(name, value, "as you set it" if name in given else "the default")
