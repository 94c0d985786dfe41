"""The memory of a device, and the peak of a run, on whichever system."""

from __future__ import annotations

import sys

import psutil
import torch

_NO_ROOM = "unable to find an engine to execute this computation"
"""What cuDNN says where it gets no memory to work in, and also where it has no kernel."""

_EXHAUSTED = ("DefaultCPUAllocator", "STATUS_ALLOC_FAILED")
"""In messages of torch's where the system or a library of CUDA gave no memory; it has a class of its own for its own
allocator of CUDA's memory alone."""


def is_exhausted(error: RuntimeError, *, surely: bool = False) -> bool:
    """Whether memory ran out; `surely`: and it can have been nothing else."""
    if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _EXHAUSTED):
        return True
    return not surely and _NO_ROOM in str(error)


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
