"""How bright a dataset's scans are, measured on some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octa_backend.data.normalise import PERCENTILES, to_unit
from octa_backend.data.store import DatasetStore
from octa_backend.training.fingerprint import Greys

MOST_SCANS = 50
"""So many, evenly spread over the dataset, show what all are like."""


def measure_greys(store: DatasetStore, scans: Sequence[int]) -> Greys:
    """The greys of some scans, all channels together; reads at most `MOST_SCANS` of them."""
    chosen = scans[:: -(-len(scans) // MOST_SCANS)]
    units = [to_unit(store.image(index)) for index in chosen]
    whites = [np.percentile(unit, PERCENTILES[1]) for unit in units]
    means = [unit.mean(dtype=np.float64) for unit in units]
    return Greys(white=float(np.median(whites)), spread=float(np.std(means)))
