"""The plain recipe that trainings are compared with: the loop of a tutorial, on the same scans and the same network.

float32, contiguous (B, C, H, W), Adam at 1e-4, 0.3 · BCE + 0.7 · Dice, a step of 0.8 every 10 epochs, batches of 4
whole scans, no augmentation and no running average of the weights.

Shapes: B scans, C channels, H x W pixels.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from statistics import fmean, median, pstdev
from typing import NamedTuple

import numpy as np
import torch
from measuring import Numbers, say, synchronise
from processor_time import tells_processor_seconds
from torch import Tensor, nn
from torch.nn import functional as F

from octa_backend.data.normalise import to_unit
from octa_backend.data.splits import Splits
from octa_backend.data.store import DatasetStore
from octa_backend.models import registry
from octa_backend.training import memory
from octa_backend.training.metrics import mean_of_classes, score_classes

BATCH_SIZE = 4
RATE, RATE_STEP, RATE_FACTOR = 1e-4, 10, 0.8


class Took(NamedTuple):
    """What the training of an epoch took: seconds by the clock, and processor seconds of all threads."""

    seconds: float
    processor_seconds: float


def plain_loss(logits: Tensor, mask: Tensor, bce_weight: float = 0.3, dice_weight: float = 0.7) -> Tensor:
    """Weighted sum of binary cross-entropy and 1 - soft Dice of the whole batch; logits and mask (B, 1, H, W)."""
    probability = logits.sigmoid()
    dice = (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
    return bce_weight * F.binary_cross_entropy_with_logits(logits, mask) + dice_weight * (1 - dice)


def train_plainly(store: DatasetStore, splits: Splits, config: Numbers, minutes: float, device: str) -> Numbers:
    """Train, validate after each epoch, and score the test scans once with the best epoch.

    Args:
        store: binary masks, scans of one size.
        splits: as the product divides the scans, so that both validate with the same ones.
        config: `model`, `epochs` and `seed`.
        minutes: the training ends after the epoch in which it has taken so long.
        device: as torch names it.

    Raises:
        SystemExit: the scans do not fit.
    """
    _check(store)
    torch.manual_seed(config["seed"])
    network = registry.build(config["model"], store.manifest.channels, 1).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, RATE_STEP, RATE_FACTOR)
    history: list[Numbers] = []
    best, weights, trained, processor = 0, copy.deepcopy(network.state_dict()), 0.0, 0.0
    while len(history) < config["epochs"] and trained < 60 * minutes:
        took = _train_one_epoch(network, optimizer, store, splits.train, device)
        trained, processor = trained + took.seconds, processor + took.processor_seconds
        schedule.step()
        dice = fmean(score[0] for score in _scores(network, store, splits.val, device))
        epoch = {"epoch": len(history) + 1, "training_seconds": trained, "val_dice": dice}
        history.append({**epoch, "processor_seconds": processor} if tells_processor_seconds(device) else epoch)
        say(f"  plain epoch {len(history)}: {trained:.1f} s of training, validation Dice {dice:.4f}")
        if dice > max((earlier["val_dice"] for earlier in history[:-1]), default=-1.0):
            best, weights = len(history), copy.deepcopy(network.state_dict())
    peak = memory.peak_mib(device)
    network.load_state_dict(weights)
    tested = _scores(network, store, splits.test or splits.val, device)
    dices = [dice for dice, _ in tested]
    return {
        "network": config["model"],
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "precision": "fp32",
        "patch": "whole scans",
        "scans": [len(splits.train), len(splits.val), len(splits.test)],
        "history": history,
        "best_epoch": best,
        "val_dice": history[best - 1]["val_dice"],
        "test": {"dice": fmean(dices), "dice_std": pstdev(dices), "scans": len(dices)} if splits.test else None,
        "samples_per_second": len(splits.train) * len(history) / trained,
        "prediction_ms": 1000 * median(seconds for _, seconds in tested),
        "peak_mib": peak,
    }


def _check(store: DatasetStore) -> None:
    shapes = {scan.shape for scan in store.manifest.scans}
    if len(shapes) > 1 or store.manifest.classes > 2 or store.manifest.spatial_dims != 2:
        raise SystemExit(
            f"the plain recipe is for binary 2-D scans of one size; these have {len(shapes)} sizes, "
            f"{store.manifest.classes} classes and {store.manifest.spatial_dims} axes: leave it out with --plain-seeds"
        )


def _train_one_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, store: DatasetStore, train: Sequence[int], device: str
) -> Took:
    """Train; every scan is seen once, in random order."""
    network.train()
    start, processor_start = time.perf_counter(), time.process_time()
    for batch in torch.split(torch.tensor(train)[torch.randperm(len(train))], BATCH_SIZE):
        image = torch.stack([_image(store, int(index)) for index in batch]).to(device)
        mask = torch.stack([_mask(store, int(index)) for index in batch])[:, None].float().to(device)
        optimizer.zero_grad()
        loss = plain_loss(network(image), mask)
        torch.autograd.backward(loss)
        optimizer.step()
    synchronise(device)
    return Took(time.perf_counter() - start, time.process_time() - processor_start)


@torch.inference_mode()
def _scores(network: nn.Module, store: DatasetStore, indices: Sequence[int], device: str) -> list[tuple[float, float]]:
    """Dice of each scan at a threshold of 0.5, and the seconds that its mask took."""
    network.eval()
    found = []
    for index in indices:
        start = time.perf_counter()
        predicted = (network(_image(store, index)[None].to(device)).sigmoid() >= 0.5)[0, 0].long().cpu()
        seconds = time.perf_counter() - start
        found.append((mean_of_classes(score_classes(predicted, _mask(store, index), 2)).dice, seconds))
    return found


def _image(store: DatasetStore, index: int) -> Tensor:
    """float32, (C, H, W), in 0..1."""
    return torch.from_numpy(to_unit(store.image(index)))


def _mask(store: DatasetStore, index: int) -> Tensor:
    """int64, (H, W)."""
    return torch.from_numpy(store.mask(index).astype(np.int64))
