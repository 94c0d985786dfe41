"""A small network is trained on the very scans whose labels it reviews afterwards, as a user would do it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from planting import Scan, binary, each_channel, with_mask

from octa_backend.data.splits import assign_splits
from octa_backend.data.store import DatasetStore, StoreWriter
from octa_backend.inference.label_review import Labelled
from octa_backend.inference.predictor import Predictor, open_predictor
from octa_backend.service.diagnosis_service import LabelDiagnosis, judge_labels
from octa_backend.service.model_service import write_model
from octa_backend.training import trainer
from octa_backend.training.batches import TrainingData
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import make_plan
from octa_backend.training.precision import Hardware

SIDE = 112
"""Pixels a side of the scans that are trained on."""

OPTIONS: Mapping[str, Any] = {
    "model": "monai_unet",
    "epochs": 20,
    "lr": 0.01,
    "batch_size": 2,
    "patch_size": SIDE,
    "normalisation": "percentile",
}
"""Half a minute on one core. `tiny_unet` takes twice as long, and after 10 epochs it still overlooks dark nuclei."""

MASK_VALUES = (0, 255)


def reduced(scan: Scan) -> Scan:
    """The middle square of a scan, scaled to `SIDE` pixels; a pixel of the mask is foreground where half of it was."""
    height, width = scan.inside.shape
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)

    def change(picture: Image.Image) -> Image.Image:
        return picture.resize((SIDE, SIDE), Image.Resampling.BOX, box=box)

    grey = np.asarray(change(Image.fromarray(binary(scan))))
    mask = np.where(grey >= 128, np.uint8(255), np.uint8(0))
    return with_mask(Scan(scan.name, each_channel(scan.image, change), scan.mask), mask)


def reviewed(scans: Sequence[Scan], seed: int) -> LabelDiagnosis:
    """Train on these scans, and let the best epoch's network judge their masks."""
    with tempfile.TemporaryDirectory() as folder:
        predictor = trained(Path(folder), scans, seed)
        labelled = (Labelled(scan.name, scan.image, np.asarray(scan.inside, np.uint8)) for scan in scans)
        return judge_labels(predictor, labelled, len(MASK_VALUES))


def trained(folder: Path, scans: Iterable[Scan], seed: int) -> Predictor:
    """The network of the best epoch, validated on a part of the scans as any training is."""
    (folder / "data").mkdir()
    with StoreWriter(folder / "data") as writer:
        for scan in scans:
            writer.add(scan.name, None, None, scan.image, binary(scan))
        writer.finish(MASK_VALUES)
    store = DatasetStore(folder / "data")
    config = TrainConfig.model_validate({**OPTIONS, "seed": seed})
    splits = assign_splits(store.manifest.scans, config.val_fraction, seed)
    plan = make_plan(config, store.manifest, Hardware("cpu", bf16_speedup=0.0, channels_last=False), splits=splits)
    checkpoints = Checkpoints(folder / "run")
    data = TrainingData(store, splits.train, splits.val, splits.test)
    trainer.fit(data, plan, checkpoints=checkpoints, emit=lambda _: None, should_stop=lambda: False)
    card = {"network": config.model, "channels": plan.channels, "classes": plan.classes}
    write_model(folder / "model", checkpoints.best_weights(), {**card, "normalisation": plan.normalisation})
    return open_predictor(folder / "model", "cpu", "torch")
