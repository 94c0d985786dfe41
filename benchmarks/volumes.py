"""Seconds and memory of a training step on volumes, ours against the plain way, and our cost against the cases.

Both ways train the same network, with the same layout and the same shape of sample, on the same drawn volumes, each in
a process of its own. The plain way is a script as tutorials have it: MONAI's LoadImaged, a crop by positive and
negative labels, random flips, affine and noise, a DataLoader, fp32. Ours is the real engine (`fit`), its norms and
running average included. The cost is the seconds of whole epochs of ours, over datasets of several sizes.

    python benchmarks/volumes.py [--network unet3d] [--shape 40 56 40] [--batch-size 2] [--steps 6] [--workers 0]
        [--cases 8 16 32] [--device auto]
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from measuring import Numbers, answer_order, device_of, machine, run_apart, say, synchronise, table

if TYPE_CHECKING:
    from octa_backend.data.store import DatasetStore
    from octa_backend.training.plan import Plan

WARM_UP_STEPS = 2
PLAIN, OURS = "plain", "ours"


# --- measuring, in a process of its own -----------------------------------------------------------------------------


def measure(order: Numbers) -> Numbers:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return {PLAIN: plain, OURS: ours}[order["way"]](order, Path(folder))


def drawn_store(folder: Path, count: int, shape: list[int]) -> DatasetStore:
    """A prepared dataset of so many volumes, a tenth longer than a sample: two balls in noise, of two classes."""
    import numpy as np

    from octa_backend.data.store import DatasetStore, StoreWriter

    sides = [side + side // 10 for side in shape]
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for number in range(count):
            random = np.random.default_rng([0, number])
            mask = np.zeros(sides, np.uint16)
            for value in (1, 2):
                centre = [random.uniform(0.3, 0.7) * side for side in sides]
                places = np.indices(sides) - np.reshape(centre, (3, 1, 1, 1))
                mask[np.sqrt((places**2).sum(0)) < 0.2 * min(sides)] = value
            image = (0.3 * mask + random.normal(0.2, 0.1, sides)).clip(0, 1).astype(np.float32)
            writer.add(f"{number:03d}", None, None, image[None], mask, spacing_mm=(1.0, 1.0, 1.0))
        writer.finish((0, 1, 2))
    return DatasetStore(folder)


def planned(order: Numbers, store: DatasetStore) -> Plan:
    """What the engine would do with the volumes, in one epoch of plain classes."""
    from octa_backend.training.config import TrainConfig
    from octa_backend.training.plan import make_plan
    from octa_backend.training.precision import pick_device, probe

    config = TrainConfig(
        model=order["network"], target_shape=tuple(order["shape"]), batch_size=order["batch_size"], epochs=1
    )
    return make_plan(config, store.manifest, probe(pick_device(order["device"])))


def ours(order: Numbers, folder: Path) -> Numbers:
    """The engine, for one epoch of the cases."""
    from octa_backend.training import memory
    from octa_backend.training.batches import TrainingData
    from octa_backend.training.checkpoint import Checkpoints
    from octa_backend.training.events import StepFinished
    from octa_backend.training.trainer import fit

    store = drawn_store(folder / "data", order["cases"], order["shape"])
    plan = planned(order, store)
    done: list[float] = []

    def emit(event: object) -> None:
        if isinstance(event, StepFinished):
            synchronise(order["device"])
            done.append(time.perf_counter())

    start = time.perf_counter()
    data = TrainingData(store, tuple(range(len(store))), (0,), ())
    fit(data, plan, checkpoints=Checkpoints(folder / "checkpoints"), emit=emit, should_stop=lambda: False)
    seconds = [after - before for before, after in itertools.pairwise([start, *done])]
    return {
        "step_seconds": median(seconds[WARM_UP_STEPS:]),
        "epoch_seconds": done[-1] - start,
        "peak_mib": memory.peak_mib(order["device"]),
        "precision": plan.config.precision,
        "shape": plan.network_shape and asdict(plan.network_shape),
    }


def plain(order: Numbers, folder: Path) -> Numbers:
    """A tutorial's script on the same volumes, as files."""
    import numpy as np
    import torch
    from monai.data import DataLoader, Dataset
    from monai.losses import DiceCELoss
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandAffined,
        RandCropByPosNegLabeld,
        RandFlipd,
        RandGaussianNoised,
    )

    from octa_backend.models import registry
    from octa_backend.training import memory

    store = drawn_store(folder / "data", order["cases"], order["shape"])
    plan = planned(order, store)
    files = []
    for index in range(len(store)):
        names = {key: str(folder / f"{key}{index}.npy") for key in ("image", "label")}
        np.save(names["image"], store.image(index)[0])
        np.save(names["label"], store.mask(index))
        files.append(names)
    keys, shape = ["image", "label"], plan.patch_shape
    transforms = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
            RandCropByPosNegLabeld(keys, "label", shape, num_samples=1),
            *(RandFlipd(keys, 0.5, axis) for axis in range(3)),
            RandAffined(keys, prob=0.2, rotate_range=(0.26, 0, 0), scale_range=0.1, mode=("bilinear", "nearest")),
            RandGaussianNoised(["image"], 0.1, std=0.06),
        ]
    )
    loader = DataLoader(
        Dataset(files, transforms), batch_size=order["batch_size"], shuffle=True, num_workers=order["workers"]
    )
    network = registry.build(order["network"], 1, 3, 3, shape=plan.network_shape).to(order["device"]).train()
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=1e-3), DiceCELoss(to_onehot_y=True, softmax=True)
    seconds = []
    start = time.perf_counter()
    for batch in loader:
        image, label = (batch[key].as_tensor().float().to(order["device"]) for key in keys)
        optimizer.zero_grad()
        torch.autograd.backward(loss(network(image), label))
        optimizer.step()
        synchronise(order["device"])
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return {"step_seconds": median(seconds[WARM_UP_STEPS:]), "peak_mib": memory.peak_mib(order["device"])}


# --- the comparison -------------------------------------------------------------------------------------------------


def order_of(arguments: argparse.Namespace, device: str, way: str, cases: int) -> Numbers:
    shape = {name: getattr(arguments, name) for name in ("network", "shape", "batch_size", "workers")}
    return {"way": way, "device": device, "cases": cases, **shape}


def measured(order: Numbers) -> Numbers:
    """Measure one way in a process with the environment it would have."""
    from octa_backend.service.process import worker_environment

    environment = worker_environment(os.environ) if order["way"] == OURS else os.environ
    found = run_apart(__file__, order, environment)
    say(f"  {order['way']}, {order['cases']} cases: {found['step_seconds']:.3f} s a step")
    return found


def compare(arguments: argparse.Namespace, device: str) -> str:
    """Both ways on as many cases as the steps need, and their ratio."""
    cases = arguments.batch_size * (arguments.steps + WARM_UP_STEPS)
    found = {way: measured(order_of(arguments, device, way, cases)) for way in (PLAIN, OURS)}
    rows = [[way, f"{one['step_seconds']:.3f}", f"{one['peak_mib']:.0f}"] for way, one in found.items()]
    ratios = [found[PLAIN][name] / found[OURS][name] for name in ("step_seconds", "peak_mib")]
    return table(["Way", "Seconds a step", "Peak MiB"], [*rows, ["plain / ours", *(f"{one:.2f}" for one in ratios)]])


def cost(arguments: argparse.Namespace, device: str) -> str:
    """Our seconds of an epoch over numbers of cases."""
    rows = []
    for cases in arguments.cases:
        found = measured(order_of(arguments, device, OURS, cases))
        seconds = found["epoch_seconds"]
        rows.append([str(cases), f"{seconds:.2f}", f"{seconds / cases:.3f}", f"{found['peak_mib']:.0f}"])
    return table(["Cases", "Seconds an epoch", "Seconds a case", "Peak MiB"], rows)


def main() -> None:
    if answer_order(measure):
        return
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--network", default="unet3d")
    options.add_argument("--shape", type=int, nargs=3, default=[40, 56, 40])
    options.add_argument("--batch-size", type=int, default=2)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--workers", type=int, default=0, help="of the plain way's DataLoader")
    options.add_argument("--cases", type=int, nargs="+", default=[8, 16, 32])
    options.add_argument("--device", default="auto")
    arguments = options.parse_args()
    device = device_of(arguments.device)
    print(f"{machine(device)}\n\n{compare(arguments, device)}\n\n{cost(arguments, device)}")


if __name__ == "__main__":
    main()
