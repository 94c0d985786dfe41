"""Scans per second of our training step against the plain way: fp32, NCHW, unfused Adam, no memory settings.

Both train the same network on the same synthetic scans, in turn, each in a process of its own, because the memory
settings must be there before a process starts. Ours is the real engine (`fit`), with data loading, augmentation,
gradient norms and the running average of the weights; the plain one is a bare loop on one batch.

    python benchmarks/train_step.py [--size 256] [--batch-size 4] [--steps 6] [--rounds 2] [--model unet_transformer]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

WARM_UP_STEPS = 2


def plain(size: int, batch_size: int, steps: int, model: str) -> dict[str, object]:
    """The loop of a tutorial."""
    import torch
    from torch.nn import functional as F

    from octa_backend.models import registry

    network = registry.build(model, 1, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    image = torch.rand(batch_size, 1, size, size)
    mask = (torch.rand(batch_size, 1, size, size) > 0.9).float()
    seconds = []
    for _ in range(steps + WARM_UP_STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        logits = network(image)
        probability = logits.sigmoid()
        dice = 1 - (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
        loss = 0.5 * F.binary_cross_entropy_with_logits(logits, mask) + 0.5 * dice
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    return {"scans_per_second": batch_size / median(seconds[WARM_UP_STEPS:])}


def ours(size: int, batch_size: int, steps: int, model: str) -> dict[str, object]:
    """The engine, told apart by the times of its own step events."""
    import numpy as np

    from octa_backend.data.store import DatasetStore, StoreWriter
    from octa_backend.data.synthetic import make_scan
    from octa_backend.training.batches import TrainingData
    from octa_backend.training.checkpoint import Checkpoints
    from octa_backend.training.config import TrainConfig
    from octa_backend.training.events import Event, StepFinished
    from octa_backend.training.plan import make_plan
    from octa_backend.training.precision import pick_device, probe
    from octa_backend.training.trainer import fit

    times = [time.perf_counter()]

    def note(event: Event) -> None:
        if isinstance(event, StepFinished):
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "data"
        prepared.mkdir()
        count = batch_size * (steps + WARM_UP_STEPS)
        with StoreWriter(prepared) as writer:
            for i in range(count):
                scan = make_scan(size, np.random.default_rng([0, i % 8]))
                writer.add(f"{i:04d}", None, None, scan.image[None], scan.mask.astype(np.uint16))
            writer.finish((0, 1))
        store = DatasetStore(prepared)
        hardware = probe(pick_device("auto"))
        config = TrainConfig(epochs=1, batch_size=batch_size, patch_size=size, model=model)
        plan = make_plan(config, store.manifest, hardware)
        data = TrainingData(store, tuple(range(count)), (0,), ())
        done = lambda: len(times) > steps + WARM_UP_STEPS  # noqa: E731
        fit(data, plan, checkpoints=Checkpoints(Path(folder) / "checkpoints"), emit=note, should_stop=done)
        del store, data
    steps_seconds = [after - before for before, after in itertools.pairwise(times)]
    rate = batch_size / median(steps_seconds[WARM_UP_STEPS:])
    facts = {"precision": plan.config.precision, "channels_last": plan.channels_last}
    return {"scans_per_second": rate, **facts, "device": plan.device, "bf16_speedup": hardware.bf16_speedup}


def run_apart(way: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure one way in a process with the environment it would have."""
    from octa_backend.service.process import worker_environment

    environment = worker_environment(os.environ) if way == "ours" else dict(os.environ)
    numbers = [str(arguments.size), str(arguments.batch_size), str(arguments.steps), arguments.model]
    answer = subprocess.run(
        [sys.executable, __file__, "--measure", way, *numbers],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise SystemExit(answer.stderr)
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    if "--measure" in sys.argv:
        way, size, batch_size, steps, model = sys.argv[2:]
        measure = {"plain": plain, "ours": ours}[way]
        print(json.dumps(measure(int(size), int(batch_size), int(steps), model)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="unet_transformer")
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for turn in range(1, arguments.rounds + 1):
        for way, found in rates.items():
            result = run_apart(way, arguments)
            found.append(float(str(result.pop("scans_per_second"))))
            print(f"round {turn}  {way:5}  {found[-1]:7.3f} scans/s  {result or ''}", flush=True)
    plain_rate, our_rate = median(rates["plain"]), median(rates["ours"])
    name = (
        f"{arguments.model}, batch {arguments.batch_size} of {arguments.size}x{arguments.size}, {os.cpu_count()} cores"
    )
    print(f"\n{name}\n| way | scans per second |\n|---|---|")
    print(f"| plain: fp32, NCHW | {plain_rate:.3f} |\n| ours | {our_rate:.3f} |\n\nratio {our_rate / plain_rate:.2f}")


if __name__ == "__main__":
    main()
