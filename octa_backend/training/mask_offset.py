"""How far a dataset's masks lie beside what they show, to parts of a pixel, measured on some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from octa_backend.data.alignment import offset_of
from octa_backend.data.greys import greys_of
from octa_backend.data.store import DatasetStore

MOST_SCANS, FEWEST_SCANS = 24, 5
"""So many, evenly spread over the dataset, show whether all lie alike; fewer than the second tell nothing."""

LEAST_PIXELS, LEAST_SPREADS = 0.05, 3.0
"""Masks lie beside their scans along an axis if they do so by this much in the mean, and by so many standard deviations
between scans: then practically every scan's mask lies on the same side. ROSSA: 0.085 pixels with a spread of 0.015;
nuclei: at most 0.1 with a spread of 0.3, so on no side."""


class MaskOffset(BaseModel):
    """Where masks lie, in pixels; positive is too far down, or to the right.

    Attributes:
        rows, columns: mean over scans.
        rows_spread, columns_spread: standard deviations between scans.
        scans: so many were measured.
    """

    model_config = ConfigDict(frozen=True)

    rows: float
    columns: float
    rows_spread: float
    columns_spread: float
    scans: int

    @property
    def is_beside(self) -> bool:
        """Whether masks lie beside what they show, along any axis."""
        return self.beside_rows or self.beside_columns

    @property
    def beside_rows(self) -> bool:
        """Whether masks lie above, or below, what they show."""
        return self._is_beside(self.rows, self.rows_spread)

    @property
    def beside_columns(self) -> bool:
        """Whether masks lie left, or right, of what they show."""
        return self._is_beside(self.columns, self.columns_spread)

    def _is_beside(self, mean: float, spread: float) -> bool:
        return self.scans >= FEWEST_SCANS and abs(mean) >= max(LEAST_PIXELS, LEAST_SPREADS * spread)


MeasureOffset = Callable[[], MaskOffset | None]
"""Measures the training scans."""


def measure_mask_offset(store: DatasetStore, scans: Sequence[int], ignored: int | None = None) -> MaskOffset | None:
    """The offset of some masks of pictures; reads at most `MOST_SCANS` of them.

    Args:
        store: the dataset.
        scans: which of its scans may be read.
        ignored: class of the dataset that says nothing; counts as background here.

    Returns:
        None where no mask can be compared with its scan.
    """
    chosen = scans[:: -(-len(scans) // MOST_SCANS)]
    found = [offset for index in chosen if (offset := _offset(store, index, ignored)) is not None]
    if not found:
        return None
    rows, columns = np.mean(found, axis=0).tolist()
    rows_spread, columns_spread = np.std(found, axis=0).tolist()
    return MaskOffset(
        rows=rows, columns=columns, rows_spread=rows_spread, columns_spread=columns_spread, scans=len(found)
    )


def _offset(store: DatasetStore, index: int, ignored: int | None) -> tuple[float, float] | None:
    mask_HW = store.mask(index)
    inside_HW = (mask_HW != 0) & (mask_HW != ignored) if ignored is not None else mask_HW != 0
    return offset_of(greys_of(store.image(index)[None])[0], inside_HW)
