"""Datasets, and trainings on them as `octa train` runs them, with what a benchmark wants to know of them."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from measuring import Numbers, Results, device_of, machine, run_apart, say
from processor_time import PROCESSOR_FILE, TrainingClock, tells_processor_seconds, with_processor_seconds

if TYPE_CHECKING:
    from octa_backend.service.local_training import LocalResult, LocalTraining
    from octa_backend.training.events import Event

DATA = Path(__file__).parents[2] / "shared" / "data"
SYNTHETIC = "synthetic"
SYNTHETIC_SCANS, SYNTHETIC_SIZE = 20, 64
PREDICTIONS = 20
"""So many scans are segmented to time a prediction."""


# --- datasets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Data:
    """A zip to train on.

    Attributes:
        path: of the zip, or `SYNTHETIC` for drawn scans.
        hold_out: every so-manyth patient (or scan that shows none) is kept for the test; 0: none. For zips that name
            no test scans themselves.
    """

    path: str
    hold_out: int = 0

    def job(self) -> Numbers:
        """What tells this dataset from others: its name and content.

        Raises:
            SystemExit: there is no such zip.
        """
        if self.path == SYNTHETIC:
            return {"data": SYNTHETIC, "hold_out": self.hold_out}
        zipped = Path(self.path)
        if not zipped.is_file():
            raise SystemExit(f"{zipped} is not there; give a zip of scans and masks with --data, or --data {SYNTHETIC}")
        with zipped.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"data": zipped.name, "sha256": digest, "hold_out": self.hold_out}

    def zip_in(self, folder: Path) -> Path:
        """The zip, in a folder where it has to be written first; the same bytes each time."""
        zipped = Path(self.path)
        if self.path == SYNTHETIC:
            from octa_backend.data.synthetic import write_zip

            zipped = folder / f"{SYNTHETIC}.zip"
            write_zip(zipped, SYNTHETIC_SCANS, size=SYNTHETIC_SIZE)
        if not self.hold_out:
            return zipped
        return write_split_copy(zipped, folder / f"split-{zipped.name}", self.hold_out)


def write_split_copy(zipped: Path, copy: Path, every: int) -> Path:
    """Copy a zip and keep the scans of every so-manyth patient for the test; the others are training scans."""
    from octa_backend.data.layouts import find_layout
    from octa_backend.data.patients import patients_of

    shutil.copyfile(zipped, copy)
    with zipfile.ZipFile(copy, "a") as archive:
        names = sorted(pair.name for pair in find_layout(archive.namelist()).pairs)
        owners = {name: patient or name for name, patient in patients_of(names).items()}
        held_out = set([*dict.fromkeys(owners.values())][every - 1 :: every])
        rows = (f"{name},{'test' if owner in held_out else 'train'}\n" for name, owner in owners.items())
        archive.writestr(zipfile.ZipInfo("splits.csv"), "stem,split\n" + "".join(rows))
    return copy


def add_data(parser: argparse.ArgumentParser) -> None:
    """The options of those that train on a dataset."""
    parser.add_argument("--data", default=str(DATA / "rossa.zip"), help=f"a zip, or {SYNTHETIC} (default: %(default)s)")
    parser.add_argument(
        "--hold-out", type=int, default=0, help="keep every so-manyth patient or scan for the test; 0: none"
    )


# --- trainings -------------------------------------------------------------------------------------------------------


def checked_config(values: Numbers) -> Numbers:
    """The fields that differ from the defaults, and those that name a run.

    Raises:
        SystemExit: a field or its value is not known.
    """
    from octa_backend.errors import OctaError
    from octa_backend.service.train_service import read_config

    try:
        config = read_config(values)
    except OctaError as error:
        raise SystemExit(error.message) from error
    named = config.model_dump(mode="json", include={"model", "loss", "epochs", "seed"})
    return {**config.model_dump(mode="json", exclude_defaults=True), **named}


def settings_of(words: Sequence[str]) -> Numbers:
    """`NAME=VALUE …` of the command line as fields.

    Raises:
        SystemExit: a word has no `=`.
    """
    for word in words:
        if "=" not in word:
            raise SystemExit(f"--set takes NAME=VALUE, not {word!r}")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def measure_trainings(
    script: str,
    arguments: argparse.Namespace,
    results: Results,
    jobs: Callable[[argparse.Namespace, Numbers], list[Numbers]],
) -> list[str]:
    """Measure what the command line asks for and is not known; nothing with `--table`. Returns what failed.

    Args:
        script: the benchmark.
        arguments: of its command line.
        results: what is known.
        jobs: from the arguments and the dataset's job to all jobs.
    """
    if arguments.table:
        return []
    data, device = Data(arguments.data, arguments.hold_out), device_of(arguments.device)
    wanted = jobs(arguments, data.job())
    return results.measure_all(wanted, machine(device), partial(order_training, script, data, device))


def order_training(script: str, data: Data, device: str, job: Numbers, folder: Path) -> Numbers:
    """Measure a job that trains, in the environment that a server's worker has; the plain recipe in the usual one."""
    from octa_backend.service.process import worker_environment

    order = {"job": job, "data": data.path, "device": device, "folder": str(folder)}
    plain = job.get("way") == "plain"
    return run_apart(script, order, os.environ if plain else worker_environment(os.environ))


def open_ordered(order: Numbers, *, tested: bool) -> LocalTraining:
    """The training of an order, planned; it goes on where an earlier process left it.

    Args:
        order: from `order_training`.
        tested: whether the test scans are scored at the end.
    """
    from octa_backend.service.local_dataset import open_dataset
    from octa_backend.service.start_service import StartOptions
    from octa_backend.settings import load_settings
    from octa_backend.training.config import TrainConfig

    folder, job = Path(order["folder"]), order["job"]
    archive = Data(order["data"], job["hold_out"]).zip_in(folder)
    config = TrainConfig.model_validate(job["config"])
    settings = load_settings(device=order["device"])
    training = open_dataset(archive, folder / "run", config, settings, StartOptions()).training()
    if tested:
        return training
    return replace(training, run=replace(training.run, data=replace(training.run.data, test=())))


def train(training: LocalTraining) -> LocalResult:
    """Run it to its end, show its epochs, and note their processor seconds."""
    say(f"  {training.run.describe()}")
    clock = TrainingClock(training.out / PROCESSOR_FILE)

    def hear(event: Event) -> None:
        clock.hear(event)
        _show(event)

    return training.train(hear, clock.should_stop)


def _show(event: Event) -> None:
    from octa_backend.training.events import EpochFinished

    if isinstance(event, EpochFinished):
        say(
            f"  epoch {event.epoch}: train loss {event.train_loss:.4f}, validation Dice {event.val_dice:.4f}, "
            f"{event.seconds:.1f} s, {event.scans_per_second:.2f} samples/s"
        )


def history(training: LocalTraining) -> list[Numbers]:
    """Each epoch with the seconds of training up to its end (without validation) and its validation Dice.

    On a CPU with the processor seconds, too.
    """
    from octa_backend.service.epoch_history import HISTORY_FILE, read_history

    plan, scans = training.run.plan, training.run.data.train
    epochs = with_training_seconds(read_history(training.out / HISTORY_FILE), len(scans) * plan.patches_per_scan)
    if not tells_processor_seconds(plan.device):
        return epochs
    return with_processor_seconds(epochs, training.out / PROCESSOR_FILE)


def with_training_seconds(epochs: Sequence[Numbers], samples: int) -> list[Numbers]:
    """Add up what an epoch's samples took at its own rate; `samples` is how many it has."""
    seconds = accumulate(samples / epoch["scans_per_second"] for epoch in epochs)
    kept = ("epoch", "val_dice", "scans_per_second", "peak_memory_mb")
    return [
        {**{name: epoch[name] for name in kept}, "training_seconds": taken}
        for epoch, taken in zip(epochs, seconds, strict=True)
    ]


def describe_run(training: LocalTraining, result: LocalResult, device: str) -> Numbers:
    """What is known of a finished training, and how fast its model answers."""
    from octa_backend.training.network import build_network

    plan, data, best = training.run.plan, training.run.data, result.outcome.best
    assert best is not None, "a run that was not stopped has a best epoch"
    epochs = history(training)
    return {
        "network": plan.config.model,
        "parameters": sum(weight.numel() for weight in build_network(plan).parameters()),
        "precision": plan.config.precision,
        "patch": "×".join(map(str, plan.patch_shape)),
        "scans": [len(data.train), len(data.val), len(data.test)],
        "history": epochs,
        "best_epoch": best.epoch,
        "val_dice": best.val_dice,
        "test": result.card["test"],
        "samples_per_second": median(epoch["scans_per_second"] for epoch in epochs),
        "prediction_ms": _prediction_ms(training, result, device),
        "peak_mib": max(epoch["peak_memory_mb"] for epoch in epochs),
    }


def _prediction_ms(training: LocalTraining, result: LocalResult, device: str) -> float:
    """Median over validation scans, from the decoded scan to its mask, once the model is warm."""
    from octa_backend.service.predict_service import load_predictor

    assert result.model is not None
    predictor, data = load_predictor(result.model, device), training.run.data
    milliseconds = []
    for index in (data.val[0], *data.val[:PREDICTIONS]):
        image = data.store.image(index)
        start = time.perf_counter()
        predictor.predict(image)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return median(milliseconds[1:])
