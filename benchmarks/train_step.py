"""Scans per second of our training step against the plain way: fp32, NCHW, unfused Adam, no memory settings.

Both train the same network on the same synthetic scans, in turn, each in a process of its own, because the memory
settings must be there before a process starts. Ours is the real engine (`fit`), with data loading, augmentation,
gradient norms and the running average of the weights; the plain one is a bare loop on one batch, so its share of time
for data is none. On a GPU the clocks are read when its work is done.

    python benchmarks/train_step.py [--networks unet_transformer …] [--precisions auto fp32 bf16 fp16] [--size 256]
        [--batch-size 4] [--steps 6] [--rounds 2] [--device auto] [--results FILE] [--table]
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from measuring import (
    Numbers,
    Record,
    Results,
    answer_order,
    by_machine,
    device_of,
    end,
    machine,
    networks_for_pictures,
    opened_results,
    parser,
    run_apart,
    say,
    synchronise,
    table,
)

if TYPE_CHECKING:
    from octa_backend.data.store import DatasetStore

WARM_UP_STEPS = 2
PLAIN, OURS = "plain", "ours"


# --- measuring, in a process of its own -----------------------------------------------------------------------------


def measure(order: Numbers) -> Numbers:
    way = {PLAIN: plain, OURS: ours}[order["job"]["way"]]
    return way(order["job"], order["device"])


def plain(job: Numbers, device: str) -> Numbers:
    """The loop of a tutorial."""
    import torch
    from plain_recipe import plain_loss

    from octa_backend.models import registry
    from octa_backend.training import memory

    size, batch_size = job["size"], job["batch_size"]
    network = registry.build(job["network"], 1, 1).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    image = torch.rand(batch_size, 1, size, size, device=device)
    mask = (torch.rand(batch_size, 1, size, size, device=device) > 0.9).float()
    seconds = []
    for _ in range(job["steps"] + WARM_UP_STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = plain_loss(network(image), mask, bce_weight=0.5, dice_weight=0.5)
        torch.autograd.backward(loss)
        optimizer.step()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    rate = batch_size / median(seconds[WARM_UP_STEPS:])
    return {"scans_per_second": rate, "peak_mib": memory.peak_mib(device)}


class StepClock:
    """Reads the time when a batch is there and when its step is done: what lies before a batch is data.

    The engine asks `should_stop` when a batch is there, and emits an event when its step is done.
    """

    def __init__(self, device: str, steps: int, now: Callable[[], float] = time.perf_counter) -> None:
        from octa_backend.training.events import StepFinished

        self._step_finished = StepFinished
        self._device, self._steps, self._now = device, steps, now
        self.done = [now()]
        self.there: list[float] = []

    def should_stop(self) -> bool:
        synchronise(self._device)
        self.there.append(self._now())
        return len(self.done) > self._steps

    def emit(self, event: object) -> None:
        if isinstance(event, self._step_finished):
            synchronise(self._device)
            self.done.append(self._now())

    def seconds(self) -> list[float]:
        """Of each step, its data included."""
        return [after - before for before, after in itertools.pairwise(self.done)][WARM_UP_STEPS:]

    def data_share(self) -> float:
        """Share of the steps' time in which data were read and augmented."""
        waited = [there - before for before, there in zip(self.done, self.there, strict=False)][WARM_UP_STEPS:]
        spent = self.seconds()
        return sum(waited[: len(spent)]) / sum(spent)


def ours(job: Numbers, device: str) -> Numbers:
    """The engine."""
    from octa_backend.training import memory
    from octa_backend.training.batches import TrainingData
    from octa_backend.training.checkpoint import Checkpoints
    from octa_backend.training.config import TrainConfig
    from octa_backend.training.plan import make_plan
    from octa_backend.training.precision import pick_device, probe
    from octa_backend.training.trainer import fit

    steps = job["steps"] + WARM_UP_STEPS
    hardware = probe(pick_device(device))
    with tempfile.TemporaryDirectory() as folder:
        store = drawn_store(Path(folder) / "data", job["batch_size"] * steps, job["size"])
        config = TrainConfig(
            epochs=1,
            batch_size=job["batch_size"],
            patch_size=job["size"],
            model=job["network"],
            precision=job["precision"],
        )
        plan = make_plan(config, store.manifest, hardware)
        data = TrainingData(store, tuple(range(len(store))), (0,), ())
        clock = StepClock(device, steps)
        checkpoints = Checkpoints(Path(folder) / "checkpoints")
        fit(data, plan, checkpoints=checkpoints, emit=clock.emit, should_stop=clock.should_stop)
        del store, data  # their memory maps keep the folder on Windows
    return {
        "scans_per_second": job["batch_size"] / median(clock.seconds()),
        "data_share": clock.data_share(),
        "peak_mib": memory.peak_mib(device),
        "precision": plan.config.precision,
        "channels_last": plan.channels_last,
        "bf16_speedup": hardware.bf16_speedup,
    }


def drawn_store(folder: Path, count: int, size: int) -> DatasetStore:
    """A prepared dataset of so many synthetic scans, eight of them different."""
    import numpy as np

    from octa_backend.data.store import DatasetStore, StoreWriter
    from octa_backend.data.synthetic import make_scan

    folder.mkdir()
    with StoreWriter(folder) as writer:
        drawn = [make_scan(size, np.random.default_rng([0, number])) for number in range(min(count, 8))]
        for number in range(count):
            scan = drawn[number % len(drawn)]
            writer.add(f"{number:04d}", None, None, scan.image[None], scan.mask.astype(np.uint16))
        writer.finish((0, 1))
    return DatasetStore(folder)


# --- the comparison -------------------------------------------------------------------------------------------------


def jobs(arguments: argparse.Namespace) -> list[Numbers]:
    """Round by round, a plain measurement of each network and then ours in each precision."""
    networks = networks_for_pictures() if arguments.networks == ["all"] else arguments.networks
    shape = {name: getattr(arguments, name) for name in ("size", "batch_size", "steps")}
    ways = [{"way": PLAIN}, *({"way": OURS, "precision": precision} for precision in arguments.precisions)]
    return [
        {**way, "network": network, **shape, "round": turn}
        for turn in range(1, arguments.rounds + 1)
        for network in networks
        for way in ways
    ]


def measure_apart(device: str, job: Numbers, _folder: Path) -> Numbers:
    """Measure one way in a process with the environment it would have."""
    from octa_backend.service.process import worker_environment

    environment = worker_environment(os.environ) if job["way"] == OURS else os.environ
    found = run_apart(__file__, {"job": job, "device": device}, environment)
    say(f"  {found['scans_per_second']:.3f} scans/s")
    return found


def step_table(records: Sequence[Record]) -> str:
    """A row for each network, precision and batch, medians over rounds, each beside its plain counterpart."""
    headings = ["Network", "Batch", "Precision", "Plain, scans/s", "Ours, scans/s", "Ratio"]
    headings += ["Data and augmentation", "Plain peak, MiB", "Our peak, MiB"]
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record.job["way"] == OURS:
            groups.setdefault((*_shape(record), record.job["precision"]), []).append(record)
    rows = [_row(group, [other for other in records if _is_plain_of(other, group[0])]) for group in groups.values()]
    return table(headings, rows)


def _shape(record: Record) -> tuple[str, ...]:
    return tuple(str(record.job[name]) for name in ("network", "batch_size", "size", "steps"))


def _is_plain_of(other: Record, ours: Record) -> bool:
    return other.job["way"] == PLAIN and _shape(other) == _shape(ours)


def _row(ours: Sequence[Record], plain: Sequence[Record]) -> list[str]:
    job, found = ours[0].job, ours[0].found
    asked = "" if job["precision"] == found["precision"] else f" ({job['precision']})"
    our_rate, plain_rate = _middle(ours, "scans_per_second"), _middle(plain, "scans_per_second")
    return [
        f"`{job['network']}`",
        f"{job['batch_size']} of {job['size']}×{job['size']}",
        found["precision"] + asked,
        f"{plain_rate:.3f}",
        f"{our_rate:.3f}",
        f"{our_rate / plain_rate:.2f}",
        f"{_middle(ours, 'data_share'):.1%}",
        f"{_middle(plain, 'peak_mib'):.0f}",
        f"{_middle(ours, 'peak_mib'):.0f}",
    ]


def _middle(records: Sequence[Record], name: str) -> float:
    return median(float(record.found[name]) for record in records)


def show(results: Results) -> None:
    for where, records in by_machine(results.records).items():
        print(f"\n{where}\n\n{step_table(records)}")


def main() -> None:
    if answer_order(measure):
        return
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", default=["unet_transformer"], help="all, or names")
    options.add_argument("--precisions", nargs="+", default=["auto"], choices=["auto", "fp32", "bf16", "fp16"])
    options.add_argument("--size", type=int, default=256)
    options.add_argument("--batch-size", type=int, default=4)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--rounds", type=int, default=2)
    arguments = options.parse_args()
    results = opened_results(options, arguments)
    failed: list[str] = []
    if not arguments.table:
        device = device_of(arguments.device)
        failed = results.measure_all(jobs(arguments), machine(device), partial(measure_apart, device))
    show(results)
    end(failed)


if __name__ == "__main__":
    main()
