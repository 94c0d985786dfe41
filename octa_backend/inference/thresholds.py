"""From which probability on a pixel is foreground: a number, the model's tuned one, or one of the scan itself.

Shapes: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from octa_backend.errors import InvalidOptions, NoTunedThreshold
from octa_backend.inference.threshold_wish import Wish
from octa_backend.training.threshold import USUAL

Source = Literal["fixed", "tuned", "auto"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """The number, and where it is from; None where several classes are told apart and it is not used."""

    value: float
    source: Source | None


def settle(wish: Wish, foreground: NDArray[np.float32], binary: bool, tuned: Sequence[float | None]) -> Threshold:
    """The threshold of one scan.

    Args:
        wish: a number; `tuned` is what was tuned on the model's validation scans, of several models the mean; `auto`
            is `otsu` of this scan.
        foreground: probability, (H, W).
        binary: whether the model tells foreground from background only.
        tuned: of each model, None where it has none.

    Raises:
        InvalidOptions: several classes, of which the likeliest wins, and no number.
        NoTunedThreshold: a model has none.
    """
    if not binary:
        if isinstance(wish, str):
            raise InvalidOptions(
                f"threshold={wish} is for models of foreground and background; this one has several classes, of which "
                "the likeliest wins: leave threshold out"
            )
        return Threshold(wish, None)
    if wish == "auto":
        return Threshold(otsu(foreground), "auto")
    if wish == "tuned":
        return Threshold(_mean_tuned(tuned), "tuned")
    return Threshold(wish, "fixed")


def otsu(foreground: NDArray[np.float32]) -> float:
    """The threshold that separates the probabilities of one scan best into two groups, by the variance between them.

    It always separates something, also in a scan without foreground. Where all probabilities are the same there is
    nothing to separate: 0.5.

    Source:
        N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9(1), 1979.
    """
    if foreground.min() == foreground.max():
        return USUAL
    return float(threshold_otsu(foreground))


def _mean_tuned(tuned: Sequence[float | None]) -> float:
    found = [value for value in tuned if value is not None]
    if len(found) < len(tuned):
        which = "this model has" if len(tuned) == 1 else f"{len(tuned) - len(found)} of these {len(tuned)} models have"
        raise NoTunedThreshold(
            f"{which} no tuned threshold: it is tuned on the validation scans when a training of two classes comes to "
            "its end; send a number, or threshold=auto"
        )
    return float(np.mean(found))
