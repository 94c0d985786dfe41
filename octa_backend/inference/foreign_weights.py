"""Weights that came from elsewhere: read without running code, and taken only where they are a network's, every one.

Shapes: B scans, C channels, H x W pixels, K output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from octa_backend.data.archive import Archive
from octa_backend.errors import InvalidArchive, InvalidModel, UnsafeArchive
from octa_backend.inference.safetensors_header import read_header
from octa_backend.models import registry
from octa_backend.training.initial_weights import UNREADABLE, named_tensors

NAMED = 3
"""How many tensors a message names; it counts all."""
DRY_RUN_SIDE = 64  # pixels


def network_with(
    path: Path, file: str, network: str, channels: int, classes: int, *, of_regions: bool = False
) -> nn.Module:
    """A network with the weights of a safetensors file, tried on a small scan.

    Nothing is allocated for the weights before the file's header names exactly the network's tensors.

    Args:
        path: the file.
        file: its name, for messages.
        network: a key of `registry.NETWORKS`.
        channels, classes: of scans, and of masks with background.
        of_regions: whether it learned regions, see `models.regions`.

    Raises:
        InvalidModel: the file is no safetensors file, or its tensors are not the network's, or not finite.
        UnknownNetwork: no network has this name.
    """
    header = read_header(path, file)
    built = registry.build(network, channels, registry.out_channels(classes, of_regions=of_regions))
    _require_same({name: entry.shape for name, entry in header.items()}, built, file, network)
    try:
        tensors = load(path.read_bytes())  # not mapped: Windows could not remove the file while an error is on its way
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidModel(f"{file} cannot be read: {error}") from error
    return _filled(built, tensors, channels, file)


def network_with_pickled(
    path: Path, file: str, network: str, channels: int, classes: int, *, max_files: int, max_unpacked_bytes: int
) -> nn.Module:
    """The same with a state dict that `torch.save` wrote; nothing that the file holds is run.

    Raises:
        as `network_with`.
    """
    _require_plain_zip(path, file, max_files, max_unpacked_bytes)
    built = registry.build(network, channels, registry.out_channels(classes))
    try:
        tensors = named_tensors(torch.load(path, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        raise InvalidModel(
            f"{file} is not a state dict that can be read safely: it is damaged, or holds other objects than tensors; "
            "save it as torch.save(network.state_dict(), path)"
        ) from error
    if not tensors:
        raise InvalidModel(f"{file} holds no weights; save them as torch.save(network.state_dict(), path)")
    _require_same({name: tuple(tensor.shape) for name, tensor in tensors.items()}, built, file, network)
    return _filled(built, tensors, channels, file)


def _require_plain_zip(path: Path, file: str, max_files: int, max_unpacked_bytes: int) -> None:
    """Refuse what torch would unpack without a limit: its files are zips whose members are not compressed."""
    try:
        with Archive(path, max_files=max_files, max_unpacked_bytes=max_unpacked_bytes, max_ratio=2.0):
            pass
    except (InvalidArchive, UnsafeArchive) as error:
        raise InvalidModel(
            f"{file} is not a file that torch.save of torch 1.6 or later wrote ({error.message}); send that, or "
            "safetensors"
        ) from error


def _require_same(found: Mapping[str, tuple[int, ...]], network: nn.Module, file: str, name: str) -> None:
    """See that the tensors are the network's: every name, every shape, none more.

    Raises:
        InvalidModel: they are not; the message names the first of each fault.
    """
    own = {tensor: tuple(value.shape) for tensor, value in network.state_dict().items()}
    faults = {
        "missing": [tensor for tensor in own if tensor not in found],
        "not of this network": [tensor[:200] for tensor in found if tensor not in own],
        "of another shape": [
            f"{tensor} {list(found[tensor])} instead of {list(shape)}"
            for tensor, shape in own.items()
            if tensor in found and found[tensor] != shape
        ],
    }
    told = [f"{len(names)} {fault} ({', '.join(names[:NAMED])})" for fault, names in faults.items() if names]
    if told:
        raise InvalidModel(
            f"the tensors of {file} are not those of {name} with these channels and classes: {'; '.join(told)}"
        )


def _filled(network: nn.Module, tensors: Mapping[str, Tensor], channels: int, file: str) -> nn.Module:
    """The network with the tensors, which have its names and shapes; it computes finite numbers with them."""
    for name, own in network.state_dict().items():
        given = tensors[name]
        if given.is_sparse or given.is_quantized or given.is_complex():
            raise InvalidModel(f"tensor {name!r} of {file} is not a plain one of real numbers")
        if given.is_floating_point() != own.is_floating_point():
            raise InvalidModel(f"tensor {name!r} of {file} is {given.dtype}, the network's is {own.dtype}")
        if given.is_floating_point() and not bool(torch.isfinite(given.to(own.dtype)).all()):
            raise InvalidModel(f"tensor {name!r} of {file} holds values that are not finite (NaN or infinity)")
    network.load_state_dict(tensors)
    _dry_run(network.eval(), channels, file)
    return network


@torch.inference_mode()
def _dry_run(network: nn.Module, channels: int, file: str) -> None:
    x_1CHW = torch.linspace(0, 1, DRY_RUN_SIDE**2).reshape(1, 1, DRY_RUN_SIDE, DRY_RUN_SIDE)
    logits = network(x_1CHW.expand(1, channels, -1, -1))
    if not bool(torch.isfinite(logits).all()):
        raise InvalidModel(f"with the weights of {file} the network answers a small scan with NaN or infinity")
