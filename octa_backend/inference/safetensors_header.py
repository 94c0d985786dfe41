"""The header of a safetensors file that came from elsewhere, judged before a tensor is allocated. Imports no torch.

Source:
    safetensors, "Format": 8 bytes little-endian length N, N bytes of JSON, then the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from octa_backend.errors import InvalidModel

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 20_000
MAX_AXES = 8
BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Kinds of numbers that weights may have, and their bytes."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a header says of one tensor: its kind, its shape, and where its bytes begin and end behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path, name: str) -> dict[str, TensorEntry]:
    """The tensors that a file says it holds.

    Args:
        path: the file.
        name: for messages.

    Raises:
        InvalidModel: it is no safetensors file, or its header does not fit its bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        room = size - 8
        if not 2 <= length <= room:
            raise InvalidModel(
                f"{name} is not a safetensors file: it has {size:,} bytes, and its first eight announce a header of "
                f"{length:,}"
            )
        if length > MAX_HEADER_BYTES:
            raise InvalidModel(f"the header of {name} has {length:,} bytes, {MAX_HEADER_BYTES:,} are allowed")
        text = file.read(length)
    entries = _entries(text, name)
    _check_places(entries, room - length, name)
    return entries


def _entries(text: bytes, name: str) -> dict[str, TensorEntry]:
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{name} is not a safetensors file: its header is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InvalidModel(f"{name} is not a safetensors file: its header is not a JSON object")
    content.pop("__metadata__", None)
    if not content:
        raise InvalidModel(f"{name} holds no weights")
    if len(content) > MAX_TENSORS:
        raise InvalidModel(f"{name} holds {len(content):,} tensors, {MAX_TENSORS:,} are allowed")
    return {tensor: _entry(facts, tensor, name) for tensor, facts in content.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _entry(facts: Any, tensor: str, name: str) -> TensorEntry:
    """One entry, whose shape and bytes fit each other."""
    where = f"tensor {tensor[:200]!r} of {name}"
    if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"}:
        raise InvalidModel(f"{where} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if dtype not in BYTES_OF:
        raise InvalidModel(f"{where} has numbers of kind {dtype!r}; weights have one of {', '.join(BYTES_OF)}")
    if not _are_counts(shape) or len(shape) > MAX_AXES:
        raise InvalidModel(f"{where} has the shape {str(shape)[:200]}, which is not a list of up to {MAX_AXES} lengths")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise InvalidModel(f"{where} has the data_offsets {str(offsets)[:200]}, which are not two places")
    needed, given = prod(shape) * BYTES_OF[dtype], offsets[1] - offsets[0]
    if needed != given:
        raise InvalidModel(f"{where} has the shape {shape} of {dtype}, {needed:,} bytes, but {given:,} bytes are given")
    return TensorEntry(dtype, tuple(shape), *offsets)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and one >= 0 for one in values)


def _check_places(entries: dict[str, TensorEntry], room: int, name: str) -> None:
    """Refuse tensors that share bytes, leave gaps, or lie beyond the file's end."""
    at = 0
    for tensor, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            fault = "overlaps another one" if entry.begin < at else "leaves a gap before it"
            raise InvalidModel(f"tensor {tensor[:200]!r} of {name} begins at byte {entry.begin:,} and {fault}")
        at = entry.end
    if at != room:
        raise InvalidModel(f"the tensors of {name} end at byte {at:,}, but {room:,} bytes follow the header")
