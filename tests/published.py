"""Models as they are published, without a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from octa_backend.data.splits import Splits, assign_splits
from octa_backend.data.store import DatasetStore
from octa_backend.models import registry
from octa_backend.service.experiment import Experiment, Source, make_card
from octa_backend.service.model_service import write_model
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Best, save_weights
from octa_backend.training.class_balance import class_pixels
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import make_plan
from octa_backend.training.trainer import Outcome
from tests.tiny import SLOW_CPU


def publish(folder: Path, store: DatasetStore, sha256: str, splits: Splits | None = None, **options: Any) -> Path:
    """Publish a `pointwise` network (see `tests.tiny`) that calls bright pixels foreground.

    The probability of a pixel of brightness x is sigmoid(8x - 4); with several classes the brighter a pixel is, the
    higher its class.
    """
    config = TrainConfig(model="pointwise", **options)
    plan = make_plan(config, store.manifest, SLOW_CPU, lambda: class_pixels(store, range(len(store))))
    network = registry.build("pointwise", plan.channels, plan.out_channels)
    classes = torch.arange(plan.out_channels).float()
    with torch.no_grad():
        if plan.out_channels == 1:
            network.mix.weight.fill_(8.0 / plan.channels)
            network.mix.bias.fill_(-4.0)
        else:  # -(x - place)² without x², which all classes share
            place = classes / (plan.out_channels - 1)
            network.mix.weight.copy_((40 * place / plan.channels)[:, None, None, None].expand_as(network.mix.weight))
            network.mix.bias.copy_(-20 * place**2)
    splits = splits or assign_splits(store.manifest.scans, config.val_fraction, config.seed)
    run = Experiment(plan, TrainingData(store, splits.train, splits.val, splits.test), splits)
    card = make_card(run, Source(sha256[:20], "scans.zip", sha256), Outcome(True, Best(1, 0.5)), [])
    weights = folder.with_suffix(".safetensors")
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_weights(network, weights)
    write_model(folder, weights, {"model_id": folder.name, **card})
    return folder


def read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / "card.json").read_text("utf-8"))
    return card
