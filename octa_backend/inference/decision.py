"""From the probabilities of the classes to a mask, and how sure it is.

Shapes: H x W pixels, K classes with background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.training.ignored import dataset_classes

UNCERTAIN = (0.25, 0.75)
"""A pixel whose probability lies between these is uncertain."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one scan.

    Attributes:
        mask: uint8, (H, W), class indices of the dataset.
        probability: float32, (H, W), that a pixel is not background.
        certainty: float32, (H, W), probability of the class chosen.
        confidence: its mean, in 0..1.
        uncertain_fraction: share of pixels whose foreground probability lies between the `UNCERTAIN` bounds.
        seconds: time until the network had answered, with the wait for other scans.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32]
    certainty: NDArray[np.float32]
    confidence: float
    uncertain_fraction: float
    seconds: float

    @property
    def foreground_fraction(self) -> float:
        """Share of pixels that are not background."""
        return float(np.count_nonzero(self.mask) / self.mask.size)


def decide(probability_KHW: Tensor, threshold: float, seconds: float, ignore_index: int | None) -> Prediction:
    """Choose a class for each pixel.

    Args:
        probability_KHW: of each of the network's classes with background, float32.
        threshold: a pixel is foreground from this probability on; with several classes the likeliest wins.
        seconds: that the network took.
        ignore_index: class of the dataset that the network does not have, or None.
    """
    foreground = 1 - probability_KHW[0]
    binary = probability_KHW.shape[0] == 2
    mask = (foreground >= threshold).long() if binary else probability_KHW.argmax(0)
    chosen = probability_KHW.gather(0, mask[None])[0]
    low, high = UNCERTAIN
    return Prediction(
        mask=dataset_classes(mask.to(torch.uint8).numpy(), ignore_index),
        probability=foreground.numpy(),
        certainty=chosen.numpy(),
        confidence=float(chosen.mean()),
        uncertain_fraction=float(((foreground > low) & (foreground < high)).float().mean()),
        seconds=seconds,
    )
