"""The files inside an answer: fields that hold a picture or a volume in base64, and what each of them is kept as."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PICTURE, VOLUME = ".png", ".nii.gz"
ENDINGS: Mapping[str, str] = {"_png": PICTURE, "_nii_gz": VOLUME}
"""Of a field -> of its file: `mask_png` is kept as `mask.png`, `mask_nii_gz` as `mask.nii.gz`."""

OF_PLANE: Mapping[str, str] = {"slice_png": "", "projection_png": "_projection"}
"""Field of a volume's overlay -> what follows the name of its plane: `axial.png` and `axial_projection.png`."""


def parted(body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The answer with null in place of its files, and these as file name -> content."""
    plain, files = copy.deepcopy(dict(body)), {}
    for holder, field, name in _fields(plain):
        if holder[field] is not None:
            files[name] = base64.b64decode(holder[field])
            holder[field] = None
    return plain, files


def put_back(body: dict[str, Any], folder: Path) -> None:
    """Fill an answer's fields with the files that a folder has."""
    for holder, field, name in _fields(body):
        path = folder / name
        if path.exists():
            holder[field] = base64.b64encode(path.read_bytes()).decode()


def _fields(body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each field that may hold a file: the object that has it, its name, and the file's name."""
    for field in body:
        for ending, suffix in ENDINGS.items():
            if field.endswith(ending):
                yield body, field, field.removesuffix(ending) + suffix
    for drawn in body.get("overlays", ()):
        for field, after in OF_PLANE.items():
            yield drawn, field, f"{drawn['plane']}{after}{PICTURE}"
