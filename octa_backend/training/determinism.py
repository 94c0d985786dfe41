"""Equal seeds give equal runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def reproducible(seed: int, device: str, *, deterministic: bool) -> Iterator[None]:
    """Seed torch's own generators, which networks with dropout draw from, and leave all as it was.

    Args:
        seed: the plan's.
        device: the plan's.
        deterministic: whether an operation that has no deterministic algorithm on the device is an error. On CUDA
            torch then wants `CUBLAS_WORKSPACE_CONFIG` in the environment, which the caller's process must have set.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if deterministic:
            torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def generator_states(device: str) -> dict[str, Any]:
    """The states of torch's own generators, for a checkpoint."""
    states = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, Any], device: str) -> None:
    """Go on with a checkpoint's random numbers; those of a device that it did not see begin anew."""
    torch.set_rng_state(states["cpu"])
    if device.startswith("cuda") and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
