"""Whether a model was trained on scans of the kind that a dataset holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octa_backend.inference.model_folder import spatial_dims

KINDS = {2: "pictures", 3: "volumes"}


def other_kind(card: Mapping[str, Any], dims: int) -> str | None:
    """What a model was trained on and what the scans are, as the end of a sentence; None where both are of one kind.

    Args:
        card: of the model.
        dims: 2 for pictures, 3 for volumes.
    """
    trained = spatial_dims(card)
    return None if trained == dims else f"was trained on {KINDS[trained]}, but the dataset holds {KINDS[dims]}"


def other_scans(card: Mapping[str, Any], dims: int, channels: int) -> str | None:
    """The same, also of the channels of volumes: of pictures grey and colour are brought to each other.

    Args:
        card: of the model.
        dims: as for `other_kind`.
        channels: of the scans.
    """
    differs = other_kind(card, dims)
    if differs or dims == 2 or channels == card["channels"]:
        return differs
    return f"was trained on volumes of {_count(card['channels'])}, but those of the dataset have {_count(channels)}"


def _count(channels: int) -> str:
    return f"{channels} channel{'s' if channels > 1 else ''}"
