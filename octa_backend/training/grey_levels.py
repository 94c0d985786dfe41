"""How bright a dataset's scans are, measured on some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import PERCENTILES, to_unit
from octa_backend.data.store import DatasetStore
from octa_backend.training.fingerprint import Greys
from octa_backend.training.ignored import without_ignored

MOST_SCANS = 50
"""So many, evenly spread over the dataset, show what all are like."""


def measure_greys(store: DatasetStore, scans: Sequence[int], ignore_index: int | None = None) -> Greys:
    """The greys of some scans, all channels together; reads at most `MOST_SCANS` of them.

    What the class `ignore_index` of the dataset marks is left out of what masks mark.
    """
    chosen = scans[:: -(-len(scans) // MOST_SCANS)]
    whites, means, shares = [], [], []
    for index in chosen:
        unit = to_unit(store.image(index))
        marked = unit[:, without_ignored(store.mask(index), ignore_index) > 0]
        black, white = np.percentile(unit, PERCENTILES)
        whites.append(white)
        means.append(unit.mean(dtype=np.float64))
        if marked.size:
            shares.append(_above(marked, white) / (_above(marked, black) or 1.0))
    return Greys(
        white=float(np.median(whites)),
        spread=float(np.std(means)),
        cut_off=float(np.median(shares)) if shares else 0.0,
    )


def _above(values: NDArray[np.float32], level: float) -> float:
    """How much light is above a level, summed up."""
    return float(np.clip(values - level, 0, None).sum(dtype=np.float64))
