"""What a published model's folder holds: a card and weights; an ensemble's, a card that names its members."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octa_backend.errors import IncompatibleCheckpoint

CARD_FILE, WEIGHTS_FILE = "card.json", "weights.safetensors"


def weights_of(folder: Path, card: Mapping[str, Any]) -> list[Path]:
    """The weights of a published model; of an ensemble, those of each member, whose `folder` lies beside its own.

    Raises:
        IncompatibleCheckpoint: a member is not there.
    """
    members = card.get("members")
    found = [folder.parent / one["folder"] / WEIGHTS_FILE for one in members] if members else [folder / WEIGHTS_FILE]
    for weights in found:
        if not weights.is_file():
            raise IncompatibleCheckpoint(f"model {folder.name} needs {weights}, which is not there")
    return found
