"""A trained network that answers: one scan in, mask and probabilities out.

Shapes: C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.normalise import Normalisation, normalise, to_unit
from octa_backend.inference.batching import BatchingEngine
from octa_backend.inference.channels import match_channels
from octa_backend.inference.engines import Engine, open_engine
from octa_backend.inference.model_folder import member_folders, read_card
from octa_backend.inference.pictures import class_colours
from octa_backend.inference.probability import mean_probabilities
from octa_backend.inference.tiling import predict_logits
from octa_backend.settings import EngineName
from octa_backend.training.ignored import dataset_classes
from octa_backend.training.precision import pick_device

UNCERTAIN = (0.25, 0.75)
"""A pixel whose probability lies between these is uncertain."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one scan.

    Attributes:
        mask: uint8, (H, W), class indices of the dataset.
        probability: float32, (H, W), that a pixel is not background.
        confidence: mean over pixels of the probability of the class chosen, in 0..1.
        uncertain_fraction: share of pixels whose foreground probability lies between the `UNCERTAIN` bounds.
        seconds: time until the network had answered, with the wait for other scans.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32]
    confidence: float
    uncertain_fraction: float
    seconds: float

    @property
    def foreground_fraction(self) -> float:
        """Share of pixels that are not background."""
        return float(np.count_nonzero(self.mask) / self.mask.size)


class Predictor:
    """A published model in memory. Safe to use from several threads, whose scans are computed in batches.

    An ensemble's answer is the mean of its members' probabilities.

    Args:
        folder: of the model; its card is read.
        engines: one for each of the model's networks.

    Attributes:
        channels: of the scans it was trained on.
        ignore_index: class of its dataset that was ignored, or None.
        classes: of its dataset, with background, also with one that was ignored and is never answered.
        labels: name and colour of class 0, 1, …; empty where the dataset said nothing about them.
        engine: what it computes with, for people.
    """

    def __init__(self, folder: Path, engines: Sequence[Engine]) -> None:
        card = read_card(folder)
        self.channels: int = card["channels"]
        self.ignore_index: int | None = card.get("ignore_index")
        self.classes: int = card["classes"] + (self.ignore_index is not None)
        self.labels = tuple(ClassLabel(**label) for label in card.get("labels", ()))
        self._normalisation: Normalisation = card.get("normalisation", "unit")
        self._engines = [BatchingEngine(engine) for engine in engines]
        self.engine = ", ".join(sorted({engine.name for engine in engines}))

    @property
    def colours(self) -> list[str]:
        """In which colour class 1, 2, … is drawn."""
        return class_colours(self.classes, self.labels)

    def predict(self, image: NDArray[np.generic], *, threshold: float = 0.5, tta: bool = False) -> Prediction:
        """Segment one scan.

        Args:
            image: (C, H, W) with one or three channels, uint8, uint16 or float32; brought to the model's channels.
            threshold: a pixel is foreground from this probability on (binary models only).
            tta: average over the four flips of the scan, which takes four times as long.

        Returns:
            Mask and probabilities at the scan's own size.
        """
        unit_CHW = match_channels(to_unit(image), self.channels)
        x_1CHW = torch.from_numpy(normalise(unit_CHW, self._normalisation))[None]
        start = time.perf_counter()
        with torch.inference_mode():
            views = ((), (-1,), (-2,), (-2, -1)) if tta else ((),)
            probability_KHW = torch.stack([self._probabilities(x_1CHW, axes) for axes in views]).mean(0)
        seconds = time.perf_counter() - start
        return _decide(probability_KHW, threshold, seconds, self.ignore_index)

    def _probabilities(self, x_1CHW: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Class probabilities (K, H, W) of the scan flipped along `axes`, turned back."""
        logits = [predict_logits(engine, x_1CHW.flip(axes)) for engine in self._engines]
        return mean_probabilities(logits).flip(axes)[0]


def _decide(probability_KHW: Tensor, threshold: float, seconds: float, ignore_index: int | None) -> Prediction:
    foreground = 1 - probability_KHW[0]
    binary = probability_KHW.shape[0] == 2
    mask = (foreground >= threshold).long() if binary else probability_KHW.argmax(0)
    chosen = probability_KHW.gather(0, mask[None])[0]
    low, high = UNCERTAIN
    return Prediction(
        mask=dataset_classes(mask.to(torch.uint8).numpy(), ignore_index),
        probability=foreground.float().numpy(),
        confidence=float(chosen.mean()),
        uncertain_fraction=float(((foreground > low) & (foreground < high)).float().mean()),
        seconds=seconds,
    )


def open_predictor(folder: Path, wanted_device: str, wanted_engine: EngineName = "auto") -> Predictor:
    """Load a published model with the engines that its exports, the device and the settings allow.

    Args:
        folder: of the model.
        wanted_device: the `device` setting.
        wanted_engine: the `engine` setting.

    Raises:
        DeviceUnavailable: there is no such device.
        UnknownNetwork, IncompatibleCheckpoint: the card or the weights do not fit this version, or each other.
    """
    card, device = read_card(folder), pick_device(wanted_device)
    return Predictor(
        folder, [open_engine(member, card, device, wanted_engine) for member in member_folders(folder, card)]
    )
