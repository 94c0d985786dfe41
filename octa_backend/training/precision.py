"""Which device, which arithmetic, which memory layout: measured on the machine, not guessed from its name."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass

import torch
from torch import nn

from octa_backend.errors import DeviceUnavailable
from octa_backend.training.memory import total_mib

WORTH_IT = 1.2  # bf16 must be this many times faster than fp32, or it is not worth its rounding
LAYOUT_WORTH_IT = 1.1  # as above, for channels in the innermost dimension
PROBE_CHANNELS, PROBE_SIZE = 64, 96  # of the probe's convolutions; pixels
HOPELESS = 3.0  # one bf16 step so many times slower than fp32 needs no second look


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a device does best.

    Attributes:
        device: as torch names it, for example `cpu` or `cuda:0`.
        bf16_speedup: how many times faster a bf16 training step is than an fp32 one; 0 where bf16 does not run.
        channels_last: whether fp32 convolutions train faster with channels in the innermost dimension.
        memory_mib: all that it has; None: not known, and taken as enough.
    """

    device: str
    bf16_speedup: float
    channels_last: bool
    memory_mib: float | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @property
    def bf16_pays(self) -> bool:
        """Whether bf16 is worth its rounding here."""
        return self.bf16_speedup >= WORTH_IT


def pick_device(wanted: str) -> torch.device:
    """The device that a setting names: `auto` is CUDA where there is one, else the CPU.

    Raises:
        DeviceUnavailable: there is no such device.
    """
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    unknown = f"{wanted!r} is not a device that networks are computed on here; use auto, cpu, cuda or cuda:N"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise DeviceUnavailable(unknown) from error
    if device.type not in ("cpu", "cuda") or str(device).startswith("cpu:"):
        raise DeviceUnavailable(unknown)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"{wanted!r} is not there; {_what_is_there()}")
    return device


def _what_is_there() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch was built without CUDA; the README says how to install one that was built with it"
    return f"this machine has {torch.cuda.device_count()} CUDA devices"


def is_half(precision: str) -> bool:
    """Whether a network computes in `bf16` or `fp16`."""
    return precision in ("bf16", "fp16")


def autocast(device: str, precision: str) -> torch.autocast:
    """The context in which a network computes in `fp32`, `bf16` or `fp16`."""
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(torch.device(device).type, half, enabled=is_half(precision))


def gradient_scaler(device: str, precision: str) -> torch.amp.GradScaler:
    """Scales the loss up for `fp16`, whose small gradients would become 0; does nothing in `fp32` and `bf16`.

    Source: P. Micikevicius et al., Mixed Precision Training, 2018 (arXiv:1710.03740).
    """
    return torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")


def memory_format(channels_last: bool, spatial_dims: int) -> torch.memory_format:
    """The layout of a network and its batches: channels innermost, or not."""
    if not channels_last:
        return torch.contiguous_format
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


@functools.cache
def probe(device: torch.device) -> Hardware:
    """Measure one small convolution's training step in each arithmetic and layout; takes about a second."""
    memory = total_mib(device)
    if device.type == "cuda":
        bf16_speedup = 2.0 if torch.cuda.is_bf16_supported(including_emulation=False) else 0.0
        return Hardware(str(device), bf16_speedup, True, memory)
    plain = _step_seconds(device, bf16=False, layout=torch.contiguous_format)
    last = _step_seconds(device, bf16=False, layout=torch.channels_last)
    fp32 = min(plain, last)
    try:
        bf16 = _step_seconds(device, bf16=True, layout=torch.channels_last, give_up=HOPELESS * fp32)
    except RuntimeError:  # the processor has no bf16 kernels
        return Hardware(str(device), 0.0, last * LAYOUT_WORTH_IT < plain, memory)
    return Hardware(str(device), round(fp32 / bf16, 2), last * LAYOUT_WORTH_IT < plain, memory)


def _step_seconds(device: torch.device, *, bf16: bool, layout: torch.memory_format, give_up: float = math.inf) -> float:
    """The best of three training steps of two convolutions after a first one that warms up, seconds.

    One alone where it takes over `give_up`.
    """
    with torch.random.fork_rng(devices=[]):
        layers = [nn.Conv2d(PROBE_CHANNELS, PROBE_CHANNELS, 3, padding=1) for _ in range(2)]
        x = torch.rand(2, PROBE_CHANNELS, PROBE_SIZE, PROBE_SIZE)
    convolution = nn.Sequential(layers[0], nn.ReLU(), layers[1]).to(device).to(memory_format=layout)
    x = x.to(device).to(memory_format=layout)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = convolution(x).float().mean()
        torch.autograd.backward(loss)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > give_up and len(seconds) > 1:
            break
    return min(seconds[1:])
