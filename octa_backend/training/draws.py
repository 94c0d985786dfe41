"""Random numbers per scan. All come from a CPU generator, so that the same state gives the same batch on every device.

What has probability 0 draws nothing: an augmentation that is switched off leaves the others' numbers as they were.
"""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """A number per scan, (B,), in low..high."""
    return torch.rand(count, generator=generator) * (high - low) + low


def chosen(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Which scans something happens to: bool, (B,), on the CPU."""
    if probability == 0:
        return torch.zeros(count, dtype=torch.bool)
    return torch.rand(count, generator=generator) < probability


def sometimes(
    count: int, probability: float, bounds: tuple[float, float], neutral: float, generator: torch.Generator
) -> Tensor:
    """A number within `bounds` for the scans that are chosen, `neutral` for the others; (B,)."""
    if probability == 0:
        return torch.full((count,), neutral)
    values = uniform(count, *bounds, generator)
    return torch.where(chosen(count, probability, generator), values, neutral)


def signs(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """-1 for the scans that are chosen, 1 for the others; (B,)."""
    if probability == 0.5:  # a fair coin: one bit
        return torch.randint(2, (count,), generator=generator) * 2 - 1
    return torch.where(chosen(count, probability, generator), -1, 1)
