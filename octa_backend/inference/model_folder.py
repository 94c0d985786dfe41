"""What a published model's folder holds: a card and weights; an ensemble's, a card that names its members.

What is made of a model later, its exports, lies in `exports/` of the same folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octa_backend.data.store import MANIFEST_FILE
from octa_backend.errors import IncompatibleCheckpoint

CARD_FILE, WEIGHTS_FILE = "card.json", "weights.safetensors"


def read_card(folder: Path) -> dict[str, Any]:
    """What is to be known of a model."""
    card: dict[str, Any] = json.loads((folder / CARD_FILE).read_text("utf-8"))
    return card


def spatial_dims(card: Mapping[str, Any]) -> int:
    """2 of a model of pictures, 3 of one of volumes."""
    return int(card.get("spatial_dims", 2))


def member_folders(folder: Path, card: Mapping[str, Any]) -> list[Path]:
    """The folders with weights: the model's own, or those of an ensemble's members, which lie beside it.

    Raises:
        IncompatibleCheckpoint: the weights of one are not there.
    """
    members = card.get("members")
    found = [folder.parent / one["folder"] for one in members] if members else [folder]
    for member in found:
        if not (member / WEIGHTS_FILE).is_file():
            raise IncompatibleCheckpoint(f"model {folder.name} needs {member / WEIGHTS_FILE}, which is not there")
    return found


def weights_of(folder: Path, card: Mapping[str, Any]) -> list[Path]:
    """The weights of a model, or of each member of an ensemble.

    Raises:
        IncompatibleCheckpoint: a member is not there.
    """
    return [member / WEIGHTS_FILE for member in member_folders(folder, card)]


def nearby_dataset(folder: Path, card: Mapping[str, Any]) -> Path | None:
    """The prepared dataset that a model was trained on, where it still lies beside the model.

    In a data folder it is `datasets/FILE_ID`; of `octa train` it is `dataset`, for a fold one folder further up.
    """
    file_id = card.get("dataset", {}).get("file_id", "")
    outer, outermost = folder.absolute().parents[:2]
    candidates = (outermost / "datasets" / file_id, outer / "dataset", outermost / "dataset")
    return next((path for path in candidates if (path / MANIFEST_FILE).is_file()), None)
