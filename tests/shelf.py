"""Models for the shelf: weights, packages, and exporters that do without a process."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from octa_backend.errors import ExportFailed
from octa_backend.inference.export_record import find_export
from octa_backend.inference.model_card import ModelCard
from octa_backend.models import registry
from octa_backend.service.export_child import make_export
from octa_backend.storage.uploads import measured_upload
from tests.fakes import zip_bytes
from tests.tiny import tiny_networks


class OnnxHere:
    """Exports ONNX, and nothing else, in this process, which knows the networks of the tests."""

    def ensure(self, model, wanted):
        if wanted != "onnx":
            raise ExportFailed("the tests do without it")
        if find_export(model, wanted) is None:
            make_export(model, wanted)
        return find_export(model, wanted)


def state_dict(network="small_unet", channels=1, classes=2, seed=0):
    torch.manual_seed(seed)
    with tiny_networks():
        built = registry.build(network, channels, registry.out_channels(classes))
    return {name: tensor.contiguous() for name, tensor in built.state_dict().items()}


def weights(network="small_unet", channels=1, classes=2, seed=0, **changed) -> bytes:
    """A safetensors file; `changed` are tensors to replace (dots in names are written as __), None drops one."""
    tensors = state_dict(network, channels, classes, seed)
    for name, tensor in changed.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".")] = tensor
    return save(tensors)


def card(**changes) -> bytes:
    """The card of a small network."""
    given = {"network": "small_unet", "channels": 1, "classes": 2}
    content = ModelCard(**given).model_dump(mode="json")
    return json.dumps({**content, **changes}).encode()


def package(**changes) -> bytes:
    """What a download of a small network holds; `changes` are files by name (dots as __), None drops one."""
    files = {"card.json": card(), "weights.safetensors": weights()}
    for name, content in changes.items():
        files.pop(name.replace("__", "."), None)
        if content is not None:
            files[name.replace("__", ".")] = content
    return zip_bytes(files)


def an_upload(folder: Path, content: bytes, name: str):
    path = folder / name
    path.write_bytes(content)
    return measured_upload(path, name)


def put(api, content=None, name="weights.safetensors", **fields):
    """Send a model; bare weights of a small network where nothing else is said."""
    said = {"network": "small_unet", "channels": "1"} if content is None else {}
    sent = {"file": (name, weights() if content is None else content, "application/octet-stream")}
    return api.post("/models/import", files=sent, data={**said, **fields})
