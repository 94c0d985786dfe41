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
