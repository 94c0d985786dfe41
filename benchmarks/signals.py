"""What watching a training costs: steps of the real stepper with signals and without, in turn, on the same batches.

On a CPU processor seconds are compared, so that other work on the machine does not count; on CUDA the time until the
device is done. A watched step is of one of three kinds: most only count and sample, every fifth also measures the
groups' changes, and the first of an epoch and every fiftieth looks at every layer. The median of each kind is weighed
by how often it comes in a long epoch.

    python benchmarks/signals.py [--models tiny_unet unet] [--size 128] [--batch-size 2] [--rounds 8] [--threads 1]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.training.batches import Batch
from octa_backend.training.config import TrainConfig
from octa_backend.training.network import build_network
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import pick_device, probe
from octa_backend.training.signals import CHANGES_EVERY, LAYERS_EVERY, Signals
from octa_backend.training.step import Stepper

KINDS = ("look", *["plain"] * (CHANGES_EVERY - 1), "change")
"""The steps of the short epochs that are measured."""

SHARES = {
    "look": 1 / LAYERS_EVERY,
    "change": 1 / CHANGES_EVERY - 1 / LAYERS_EVERY,
    "plain": 1 - 1 / CHANGES_EVERY,
}
"""How often each kind comes."""


def plan_for(model: str, size: int, batch_size: int) -> Plan:
    entry = ScanEntry("s0", None, None, (size, size), "uint8", 0, 0)
    manifest = Manifest(2, 1, 2, (0, 1), 0.1, (entry,))
    config = TrainConfig(model=model, patch_size=size, batch_size=batch_size)
    return make_plan(config, manifest, probe(pick_device("auto")))


def seconds(action: Callable[[], object], device: str) -> float:
    on_cuda = device.startswith("cuda")
    clock = time.perf_counter if on_cuda else time.process_time
    start = clock()
    action()
    if on_cuda:
        torch.cuda.synchronize(device)
    return clock() - start


def compare(model: str, size: int, batch_size: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds without signals, and with them by kind of step, and of an epoch's summary."""
    plan = plan_for(model, size, batch_size)
    network = build_network(plan).train()
    signals = Signals(network, plan)
    watched = Stepper(network, plan, lambda _finding: None, hooks=signals)
    plain = Stepper(copy.deepcopy(network), plan, lambda _finding: None)
    image = torch.rand((batch_size, 1, size, size), device=plan.device)
    batch = Batch(image, (torch.rand((batch_size, size, size), device=plan.device) > 0.9).long())
    for stepper in (plain, watched):
        stepper.step(batch, 1e-3)
    signals.epoch()
    without: dict[str, list[float]] = defaultdict(list)
    with_signals: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        for place, kind in enumerate(KINDS):
            order = [(plain, without), (watched, with_signals)]
            for stepper, found in reversed(order) if (turn + place) % 2 else order:
                found[kind].append(seconds(partial(stepper.step, batch, 1e-3), plan.device))
        with_signals["epoch"].append(seconds(signals.epoch, plan.device))
    all_plain = median([value for values in without.values() for value in values])
    return {"step": all_plain}, {kind: median(values) for kind, values in with_signals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["tiny_unet", "unet"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"batch {arguments.batch_size} of {arguments.size}x{arguments.size}, milliseconds (medians)")
    print("| network | without | most steps | every 5th | every 50th | an epoch's summary | with, weighed | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        without, found = compare(model, arguments.size, arguments.batch_size, arguments.rounds)
        weighed = sum(share * found[kind] for kind, share in SHARES.items()) + found["epoch"] / LAYERS_EVERY
        numbers = [without["step"], *(found[kind] for kind in ("plain", "change", "look", "epoch")), weighed]
        cells = " | ".join(f"{1000 * number:.1f}" for number in numbers)
        print(f"| {model} | {cells} | {weighed / without['step']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
