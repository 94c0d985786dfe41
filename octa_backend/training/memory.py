"""The memory of a device, and the peak of a run, on whichever system."""

from __future__ import annotations

import sys

import psutil
import torch


def peak_mib(device: str) -> float:
    """The most memory used so far, MiB: of the GPU where the run is on one, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset / 2**20)
    import resource  # noqa: PLC0415 - not on Windows

    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**20 if sys.platform == "darwin" else 2**10)


def used_mib(device: torch.device) -> float:
    """The memory in use now, MiB: what torch has reserved of the GPU, or that of this process."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 2**20
    return float(psutil.Process().memory_info().rss / 2**20)


def total_mib(device: torch.device) -> float:
    """All the memory that a device has, MiB: of the GPU, or of this machine. What others use of it changes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    return float(psutil.virtual_memory().total / 2**20)
