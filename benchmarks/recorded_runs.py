"""Trains a planted run for real and keeps what the training doctor would see of it.

A run is named by its job: `case`, `data`, `seed`, `epochs` (None: the case's own), and the `remedies` that were applied
one after the other, each as `code`, `changes` and `from_checkpoint`. What is found: the `history` (fields of
`RunHistory`), the `dice` of the best weights on sound validation scans, and the `seconds` it took, `start_seconds` of
them for the checks before the first step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from measuring import Numbers
from planted_networks import as_built
from planted_training import CASES, PlantNetwork, options_of
from torch import nn
from training_sets import TakenIn, sound_scans, take_in, write_repaired, write_upload

from octa_backend.diagnosis.remedies import DATASET_REMEDIES
from octa_backend.diagnosis.run_history import EpochRecord, RunHistory, StartChecks
from octa_backend.errors import TrainingDiverged
from octa_backend.service.run_doctor import facts_of, record_of
from octa_backend.training import trainer
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Checkpoints, load_weights
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation import evaluate
from octa_backend.training.events import EpochFinished, Event
from octa_backend.training.initial_weights import InitialWeights, take_weights
from octa_backend.training.losses import make_loss
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware
from octa_backend.training.start_checks import start_checks

ON_CPU = Hardware("cpu", bf16_speedup=0.0, channels_last=False)
"""Taken as it is and not measured: the same run then computes the same on every processor."""

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
        initial: weights to begin with.
    """

    taken: TakenIn
    sound: TrainingData
    plan: Plan
    told: Plan
    plant: PlantNetwork
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
        with planted(prepared):
            history, checked_seconds = train_recorded(prepared, folder)
            dice = _keep_best(prepared, folder, weights_path(kept, job))
    seconds = time.perf_counter() - start
    return {"history": asdict(history), "dice": dice, "seconds": seconds, "start_seconds": checked_seconds}


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
    write_upload(folder / "sound.zip", CASES[case.clean].scans(sound, _generator(job)))
    without_fault = take_in(folder / "sound.zip", folder / "sound").data
    config = config_of(job)
    told = plan_of(config, taken.data)
    plant, initial = _network_fault(job, config), _initial(job, kept)
    return Prepared(taken, without_fault, _in_precision(told, "fp32"), told, plant, initial)


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
        if remedy["code"] in DATASET_REMEDIES:
            target = upload.with_name(f"repaired-{number}.zip")
            if write_repaired(upload, remedy["code"], target):
                upload = target
    return upload


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


@contextmanager
def planted(prepared: Prepared) -> Iterator[None]:
    """Have the trainer build the faulty network."""
    plain = trainer.build_network

    def build(plan: Plan) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.config.seed)  # for a fault that draws weights of its own
            return prepared.plant(plain(plan), prepared.told.config)

    trainer.build_network = build
    try:
        yield
    finally:
        trainer.build_network = plain


# --- training -------------------------------------------------------------------------------------------------------


def train_recorded(prepared: Prepared, folder: Path) -> tuple[RunHistory, float]:
    """Check the start, train, and give the history, which ends where a number is not finite any more.

    Returns:
        The history, and how many seconds the checks before the first step took.
    """
    reports: list[EpochRecord] = []

    def note(event: Event) -> None:
        if isinstance(event, EpochFinished):
            reports.append(record_of(asdict(event)))

    begun = time.perf_counter()
    start = _check_start(prepared)
    checked_seconds = time.perf_counter() - begun
    non_finite = None
    data, plan = prepared.taken.data, prepared.plan
    checkpoints = Checkpoints(folder / "run")
    try:
        trainer.fit(data, plan, checkpoints=checkpoints, emit=note, should_stop=lambda: False, initial=prepared.initial)
    except TrainingDiverged as error:
        non_finite = (error.message.split(" became")[0], len(reports) + 1)
    facts = facts_of(_json(prepared.told), prepared.taken.findings)
    return RunHistory(facts, tuple(reports), plan.epochs, start, non_finite), checked_seconds


def _json(plan: Plan) -> dict[str, Any]:
    return plan.model_dump(mode="json")


def _check_start(prepared: Prepared) -> StartChecks:
    network = trainer.build_network(prepared.plan)
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
    network, plan = trainer.build_network(prepared.plan).eval(), prepared.plan
    load_weights(network, target)
    scans = evaluate(network, prepared.sound, plan, make_loss(plan.config), prepared.sound.val, lambda: False)
    return fmean(scan.score.dice for scan in scans or ())
