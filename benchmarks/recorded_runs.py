"""Trains tiny networks for real and keeps what the training doctor would see of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octa_backend.data.store import DatasetStore, StoreWriter
from octa_backend.diagnosis.run_history import EpochRecord, EpochSignals, RunFacts, RunHistory
from octa_backend.errors import TrainingDiverged
from octa_backend.training import trainer
from octa_backend.training.batches import TrainingData, steps_per_epoch
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import EpochFinished, Event
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware
from octa_backend.training.step import Step, Stepper

Pairs = list[tuple[NDArray[Any], NDArray[Any]]]
"""Images (H, W) and masks (H, W) of 0 and 1."""


@dataclass
class Watched:
    """What is seen of the network in one epoch, gathered step by step."""

    ratios: dict[str, list[float]] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    predicted: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def signals(self, gradient_norms: Mapping[str, float]) -> EpochSignals:
        return EpochSignals(
            gradient_norms=dict(gradient_norms),
            weight_norms=dict(self.norms),
            update_ratios={name: fmean(found) for name, found in self.ratios.items()},
            predicted_foreground=fmean(self.predicted),
            true_foreground=fmean(self.true),
            loss_spread=float(np.std(self.losses)),
        )


class WatchedStepper(Stepper):
    """Notes how far each step moves the weights, and how much foreground the network sees."""

    watched = Watched()

    def step(self, image_BC: Tensor, mask_B: Tensor, lr: float) -> Step:
        before = {name: [p.detach().clone() for p in group] for name, group in self._groups.items()}
        seen: list[float] = []
        hook = self.network.register_forward_hook(lambda _m, _i, out: seen.append(foreground(out)))
        try:
            step = super().step(image_BC, mask_B, lr)
        finally:
            hook.remove()
        for name, group in self._groups.items():
            norm = total([p.detach() for p in before[name]])
            moved = total([p.detach() - was for p, was in zip(group, before[name], strict=True)])
            self.watched.ratios.setdefault(name, []).append(moved / max(norm, 1e-12))
            self.watched.norms[name] = norm
        self.watched.predicted += seen
        self.watched.true.append(float((mask_B > 0).float().mean()))
        self.watched.losses.append(sum(self.loss.weights[name] * value for name, value in step.components.items()))
        return step


def foreground(output: Any) -> float:
    """Share of the pixels that logits (B, 1, *spatial) call foreground; of the finest where there are several."""
    finest = output if isinstance(output, Tensor) else output[0]
    return float((finest.detach() > 0).float().mean())


def total(tensors: list[Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(tensors))


@contextmanager
def watching(change: Callable[[nn.Module], None]) -> Iterator[None]:
    """Let the trainer use the watched stepper, and change each network that it builds."""
    plain_build, plain_stepper = trainer.build_network, trainer.Stepper

    def build(plan: Plan) -> nn.Module:
        network = plain_build(plan)
        change(network)
        return network

    trainer.build_network, trainer.Stepper = build, WatchedStepper  # type: ignore[misc]
    try:
        yield
    finally:
        trainer.build_network, trainer.Stepper = plain_build, plain_stepper  # type: ignore[misc]


def record(pairs: Pairs, val: int, config: TrainConfig, change: Callable[[nn.Module], None]) -> RunHistory:
    """Train on all but the last `val` pairs; the history ends where the loss is not finite any more."""
    reports: list[tuple[EpochFinished, EpochSignals]] = []
    WatchedStepper.watched = Watched()

    def note(event: Event) -> None:
        if isinstance(event, EpochFinished):
            reports.append((event, WatchedStepper.watched.signals(event.gradient_norms)))
            WatchedStepper.watched = Watched()

    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder) / "data", pairs, val)
        plan = make_plan(config, data.store.manifest, Hardware("cpu", bf16_speedup=0.0, channels_last=False))
        non_finite = None
        with watching(change):
            try:
                trainer.fit(
                    data, plan, checkpoints=Checkpoints(Path(folder) / "run"), emit=note, should_stop=lambda: False
                )
            except TrainingDiverged as error:
                non_finite = (error.message.split(" became")[0], len(reports) + 1)
        facts = RunFacts(
            config=plan.config.model_dump(mode="json"),
            train_scans=len(data.train),
            val_scans=len(data.val),
            patients=None,
            parameters=sum(p.numel() for p in trainer.build_network(plan).parameters()),
            classes=plan.classes,
            foreground_fraction=data.store.manifest.foreground_fraction,
            steps_per_epoch=steps_per_epoch(data.train, plan),
        )
        del data
    return RunHistory(facts, tuple(an_epoch(*one) for one in reports), config.epochs, non_finite=non_finite)


def prepared(folder: Path, pairs: Pairs, val: int) -> TrainingData:
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for number, (image, mask) in enumerate(pairs):
            writer.add(f"{number:03d}", None, None, image[None], mask.astype(np.uint16))
        writer.finish((0, 1))
    cut = len(pairs) - val
    return TrainingData(DatasetStore(folder), tuple(range(cut)), tuple(range(cut, len(pairs))), ())


def an_epoch(report: EpochFinished, signals: EpochSignals) -> EpochRecord:
    return EpochRecord(
        epoch=report.epoch,
        lr=report.lr,
        train_loss=report.train_loss,
        loss_components=dict(report.loss_components),
        val_loss=report.val_loss,
        val_dice=report.val_dice,
        val_precision=report.val_precision,
        val_recall=report.val_recall,
        signals=signals,
    )
