"""Weights that a training begins with in place of fresh ones: read without running code, taken by name and shape."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.errors import IncompatibleCheckpoint, ModelNotFound

IN_FOLDERS = ("average.safetensors", "weights.safetensors")
"""What a checkpoint's folder and a model's folder hold; of a checkpoint the average, which was validated."""

NESTED = ("state_dict", "model_state_dict", "model", "weights")
"""Under these names training scripts keep the weights beside other things."""

WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
"""What torch's data parallelism and compilation put before each name."""

LAYERS_NAMED = 20
"""How many parameters the finding names that were not taken; its evidence holds the full count."""

# What torch.load raises, with weights_only, for a file that is damaged or holds other objects than weights.
UNREADABLE = (
    pickle.UnpicklingError, struct.error, SafetensorError, OSError, EOFError, RuntimeError, ValueError, LookupError,
    TypeError, AttributeError, AssertionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Where a training's first weights come from.

    Attributes:
        source: as the user named it.
        path: a file (`.safetensors`, or any that `torch.save` wrote), or the folder of a model or a checkpoint.
    """

    source: str
    path: Path


def take_weights(network: nn.Module, initial: InitialWeights) -> Finding:
    """Copy into a network what has the name and the shape of one of its tensors; the rest stays fresh.

    Returns:
        What was taken and what was not, and why: a parameter is not there, or has another shape, as those of the first
        convolution have with other channels, and those of the head with other classes.

    Raises:
        ModelNotFound: the file or folder is not there.
        IncompatibleCheckpoint: it holds no weights, or none that fits.
    """
    found = read_tensors(initial)
    own = network.state_dict()
    fitting = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
    parameters = [name for name, _ in network.named_parameters()]
    fresh = {name: _compared(own[name], found.get(name)) for name in parameters if name not in fitting}
    if len(fresh) == len(parameters):
        name, compared = next(iter(fresh.items()))
        raise IncompatibleCheckpoint(
            f"pretrained={initial.source}: none of its {len(found)} tensors has the name and the shape of one of the "
            f"{len(parameters)} parameters of this network, for example {name} ({compared}); choose the model that "
            "the weights are of"
        )
    network.load_state_dict(fitting, strict=False)
    return _told(initial.source, len(parameters), fresh)


def read_tensors(initial: InitialWeights) -> dict[str, Tensor]:
    """All tensors of a file or folder by name, on the CPU.

    Raises:
        ModelNotFound: it is not there.
        IncompatibleCheckpoint: it holds no weights.
    """
    path = _file(initial)
    try:
        safe = path.suffix == ".safetensors"
        content = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise IncompatibleCheckpoint(
            f"pretrained={initial.source}: {path.name} is not a checkpoint that can be read safely: it is damaged, or "
            "holds other objects than tensors; save it as torch.save(network.state_dict(), path)"
        ) from error
    tensors = named_tensors(content)
    if not tensors:
        raise IncompatibleCheckpoint(
            f"pretrained={initial.source}: {path.name} holds no weights; save them as "
            "torch.save(network.state_dict(), path)"
        )
    return tensors


def _file(initial: InitialWeights) -> Path:
    """The file with the weights; `state.pt` of a checkpoint stands for the checkpoint."""
    path = initial.path.parent if initial.path.name == "state.pt" else initial.path
    if path.is_file():
        return path
    for name in IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    if not path.exists():
        raise ModelNotFound(f"pretrained={initial.source}: there is no such model, file or folder")
    raise IncompatibleCheckpoint(
        f"pretrained={initial.source}: {path} is neither a model's nor a checkpoint's folder; those hold "
        f"{' or '.join(reversed(IN_FOLDERS))} (an ensemble has no weights of its own; name one of its members)"
    )


def named_tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of what training scripts keep one in, by name without wrappers."""
    if not isinstance(content, Mapping):
        return {}
    nested = (named_tensors(content[name]) for name in NESTED if name in content)
    found = next((tensors for tensors in nested if tensors), None)  # a loss may lie beside it, as a tensor
    return found or {WRAPPERS.sub("", str(name)): value for name, value in content.items() if isinstance(value, Tensor)}


def _compared(own: Tensor, found: Tensor | None) -> str:
    return f"{_size(own)}, ∅" if found is None else f"{_size(own)} ≠ {_size(found)}"


def _size(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "1"


def _told(source: str, total: int, fresh: Mapping[str, str]) -> Finding:
    counts = {"source": source, "taken": total - len(fresh), "total": total}
    if not fresh:
        return Finding("pretrained_taken", Severity.INFO, counts)
    named = dict(list(fresh.items())[:LAYERS_NAMED])
    example = ", ".join(f"{name} ({compared})" for name, compared in list(named.items())[:3])
    evidence = {**counts, "count": len(fresh), "example": example, "fresh": named}
    return Finding("pretrained_partly_taken", Severity.WARNING, evidence)
