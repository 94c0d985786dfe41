"""Trains a planted run for real and keeps what the training doctor would see of it.

A run is named by its job: `case`, `data`, `seed`, `epochs` (None: the case's own), and the `remedies` that were applied
one after the other, each as `code`, `changes` and `from_checkpoint`. What is found: the `history` (fields of
`RunHistory`), the `treatments` that the run took by itself, the `dice` of the best weights on sound validation scans,
and the `seconds` it took, `start_seconds` of them for the checks before the first step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import numpy as np
import torch
from measuring import Numbers
from planted_networks import as_built
from planted_training import CASES, PlantNetwork, options_of
from torch import nn
from training_sets import TakenIn, sound_scans, take_in, write_repaired, write_upload
from watched_training import Recorder, train_watched

from octa_backend.diagnosis.remedies import DATASET_REMEDIES
from octa_backend.diagnosis.run_history import RunHistory, StartChecks
from octa_backend.service.repair_service import Choose, automatic
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Checkpoints, load_weights
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation import evaluate
from octa_backend.training.initial_weights import InitialWeights, take_weights
from octa_backend.training.losses import make_loss
from octa_backend.training.network import build_network
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware
from octa_backend.training.start_checks import start_checks

ON_CPU = Hardware("cpu", bf16_speedup=0.0, channels_last=False)
"""Taken as it is and not measured: the same run then computes the same on every processor."""

AUTO_HEAL = "auto_heal"
"""In place of a remedy: the run heals itself, its scans were repaired at upload (`repair=auto`)."""

START_SECONDS = 20.0
"""More than the checks before the first step need here, so that no clock decides what they find."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run is trained with.

    Attributes:
        taken: its scans, and what the checks of the data say of them.
        sound: the same scans without the fault, to score on.
        plan: what is computed.
        told: the same as the doctor is told it: of a run whose fp16 is emulated it says fp16.
        plant: the fault of its network.
        in_weights: whether that is one of its weights.
        initial: weights to begin with.
    """

    taken: TakenIn
    sound: TrainingData
    plan: Plan
    told: Plan
    plant: PlantNetwork
    in_weights: bool
    initial: InitialWeights | None


def record(job: Numbers, kept: Path) -> Numbers:
    """Train what a job names.

    Args:
        job: see above.
        kept: the folder of all runs' best weights; those of the run that the last remedy was applied to are there.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepared = prepare_run(job, folder, kept)
        trained = train_recorded(prepared, folder)
        dice = _keep_best(prepared, folder, weights_path(kept, job))
    return {
        "history": asdict(trained.history),
        "treatments": trained.treatments,
        "dice": dice,
        "seconds": time.perf_counter() - start,
        "start_seconds": trained.checked_seconds,
    }


def weights_path(kept: Path, job: Numbers) -> Path:
    """Where the best weights of a run are kept."""
    name = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:20]
    return kept / f"{name}.safetensors"


# --- what is trained ------------------------------------------------------------------------------------------------


def prepare_run(job: Numbers, folder: Path, kept: Path) -> Prepared:
    """Plant, repair and take in the scans, plan the run, and find the weights that it begins with."""
    case, remedies = CASES[job["case"]], job["remedies"]
    sound = sound_scans(job["data"], job["seed"])
    planted_scans = case.scans(sound, _generator(job))
    upload = folder / "scans.zip"
    write_upload(upload, planted_scans)
    taken = take_in(_repaired(upload, remedies), folder / "data")
    reference = case if case.is_healthy else CASES[case.clean]
    write_upload(folder / "sound.zip", reference.scans(sound, _generator(job)))
    without_fault = take_in(folder / "sound.zip", folder / "sound").data
    config = config_of(job)
    told = plan_of(config, taken.data)
    plant, initial = _network_fault(job, config), _initial(job, kept)
    computed = _in_precision(told, "fp32")
    return Prepared(taken, without_fault, computed, told, plant, CASES[job["case"]].in_weights, initial)


def _generator(job: Numbers) -> np.random.Generator:
    """For what is planted: the same for all runs of a seed, so that a case and its clean run can share a change."""
    return np.random.default_rng([19, job["seed"]])


def config_of(job: Numbers) -> TrainConfig:
    """What a job computes: the case's options with the remedies' changes."""
    options = options_of(CASES[job["case"]], job["data"])
    for remedy in job["remedies"]:
        options |= remedy["changes"]
    if job["epochs"] is not None:
        options["epochs"] = job["epochs"]
    return TrainConfig(**options, seed=job["seed"])


def plan_of(config: TrainConfig, data: TrainingData) -> Plan:
    """The plan on a CPU; `fp16`, which it would refuse there, stands in it all the same."""
    computed = config.model_copy(update={"precision": "fp32"})
    return _in_precision(make_plan(computed, data.store.manifest, ON_CPU).with_estimate(), config.precision)


def _in_precision(plan: Plan, precision: str) -> Plan:
    return plan.model_copy(update={"config": plan.config.model_copy(update={"precision": precision})})


def _repaired(upload: Path, remedies: Sequence[Numbers]) -> Path:
    for number, remedy in enumerate(remedies):
        target = upload.with_name(f"repaired-{number}.zip")
        choose = _choice(remedy["code"])
        if choose is not None and write_repaired(upload, choose, target):
            upload = target
    return upload


def _choice(code: str) -> Choose | None:
    """What a remedy changes in the scans; None where it is one of the configuration."""
    if code == AUTO_HEAL:
        return automatic
    return (lambda _: [code]) if code in DATASET_REMEDIES else None


def _network_fault(job: Numbers, config: TrainConfig) -> PlantNetwork:
    """The case's, unless another network took the faulty one's place, or the faulty weights were left behind."""
    case = CASES[job["case"]]
    other_network = config.model != options_of(case, job["data"])["model"]
    is_rid = case.in_weights and bool(job["remedies"])
    return as_built if other_network or is_rid else case.network


def _initial(job: Numbers, kept: Path) -> InitialWeights | None:
    """The best weights of the run before, where the last remedy goes on from them and there are any."""
    *before, last = job["remedies"] or [{}]
    if not last.get("from_checkpoint"):
        return None
    path = weights_path(kept, {**job, "remedies": before})
    return InitialWeights("the run before", path) if path.exists() else None


def planted_network(prepared: Prepared, plan: Plan) -> nn.Module:
    """The plan's network with the fault in it, until the run heals itself with another one."""
    network = build_network(plan)
    if plan.config.model != prepared.told.config.model or (prepared.in_weights and plan.treatments):
        return network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.config.seed)  # for a fault that draws weights of its own
        return prepared.plant(network, prepared.told.config)


# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trained:
    """A run at its end: its history, what it took by itself, and the seconds of the checks before its first step."""

    history: RunHistory
    treatments: list[str]
    checked_seconds: float


def train_recorded(prepared: Prepared, folder: Path) -> Trained:
    """Check the start and train."""
    begun = time.perf_counter()
    start = _check_start(prepared)
    checked_seconds = time.perf_counter() - begun
    recorder = Recorder(prepared.told, prepared.taken.findings, start)
    checkpoints = Checkpoints(folder / "run")
    with patch("octa_backend.training.trainer.build_network", partial(planted_network, prepared)):
        train_watched(prepared.taken.data, prepared.plan, recorder, checkpoints, prepared.initial)
    return Trained(recorder.history(), recorder.treatments, checked_seconds)


def _check_start(prepared: Prepared) -> StartChecks:
    network = planted_network(prepared, prepared.plan)
    if prepared.initial is not None:
        take_weights(network, prepared.initial)
    return start_checks(network, prepared.taken.data, prepared.plan, lambda: False, START_SECONDS)


def _keep_best(prepared: Prepared, folder: Path, target: Path) -> float:
    """Keep the best weights; their Dice on the sound validation scans, 0 where no epoch was finished."""
    checkpoints = Checkpoints(folder / "run")
    if checkpoints.index is None:
        return 0.0
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(checkpoints.best_weights(), target)
    plan = Plan.model_validate(checkpoints.best_plan())
    network = planted_network(prepared, plan).eval()
    load_weights(network, target)
    scans = evaluate(network, prepared.sound, plan, make_loss(plan.config), prepared.sound.val, lambda: False)
    return fmean(scan.score.dice for scan in scans or () if scan.score is not None)
