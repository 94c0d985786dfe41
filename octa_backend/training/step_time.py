"""How long a training step takes, measured."""

from __future__ import annotations

import time

import torch

from octa_backend.training.batches import TrainingData, training_batches
from octa_backend.training.determinism import reproducible
from octa_backend.training.network import build_network
from octa_backend.training.plan import Plan
from octa_backend.training.step import Stepper

LONG_SECONDS = 5.0
"""A first step of such a length is taken as it is; after a quicker one, a second one is measured."""


def step_seconds(plan: Plan, data: TrainingData) -> float:
    """Time one optimizer step of a fresh network, from cutting the patches on; nothing is kept.

    Args:
        plan: complete but for the learning rate, which takes no time.
        data: the scans.
    """
    if plan.config.lr == "auto":
        plan = plan.decided("lr", 1e-4, "to measure")
    assert isinstance(plan.config.lr, float), "it was decided"
    stepper = Stepper(build_network(plan).train(), plan, lambda _finding: None)
    with reproducible(plan.config.seed, plan.device, deterministic=plan.config.deterministic):
        first = _timed(stepper, plan, data, plan.config.lr)
        return first if first > LONG_SECONDS else _timed(stepper, plan, data, plan.config.lr)


def _timed(stepper: Stepper, plan: Plan, data: TrainingData, rate: float) -> float:
    start = time.perf_counter()
    batch = next(training_batches(data, plan, torch.Generator().manual_seed(plan.config.seed)))
    stepper.step(batch, rate)
    if plan.device.startswith("cuda"):
        torch.cuda.synchronize(plan.device)
    return time.perf_counter() - start
