"""A trained network that answers: one scan in, mask and probabilities out.

Shapes: C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.normalise import Normalisation, normalise, to_unit
from octa_backend.inference.model_folder import CARD_FILE, weights_of
from octa_backend.inference.pictures import class_colours
from octa_backend.inference.probability import mean_probabilities
from octa_backend.inference.tiling import predict_logits
from octa_backend.models import registry
from octa_backend.training.checkpoint import load_weights
from octa_backend.training.ignored import dataset_classes
from octa_backend.training.precision import autocast

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
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
        seconds: time in the network.
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
    """A published model in memory. Safe to use from several threads; scans are computed one after the other.

    An ensemble's answer is the mean of its members' probabilities.

    Attributes:
        channels: of the scans it was trained on.
        ignore_index: class of its dataset that was ignored, or None.
        classes: of its dataset, with background, also with one that was ignored and is never answered.
        labels: name and colour of class 0, 1, …; empty where the dataset said nothing about them.
    """

    def __init__(self, folder: Path, device: str, precision: str) -> None:
        card = json.loads((folder / CARD_FILE).read_text("utf-8"))
        self.channels: int = card["channels"]
        self.ignore_index: int | None = card.get("ignore_index")
        self.classes: int = card["classes"] + (self.ignore_index is not None)
        self.labels = tuple(ClassLabel(**label) for label in card.get("labels", ()))
        self._normalisation: Normalisation = card.get("normalisation", "unit")
        self._device, self._precision = device, precision
        self._layout = torch.channels_last if precision == "bf16" else torch.contiguous_format
        out_channels = registry.out_channels(card["classes"])
        self._networks = [self._network(card["network"], out_channels, weights) for weights in weights_of(folder, card)]
        self._lock = threading.Lock()

    def _network(self, name: str, out_channels: int, weights: Path) -> nn.Module:
        network = registry.build(name, self.channels, out_channels)
        load_weights(network, weights)
        return network.eval().to(self._device).to(memory_format=self._layout)

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
        x_1CHW = torch.from_numpy(normalise(unit_CHW, self._normalisation))[None].to(self._device)
        start = time.perf_counter()
        with self._lock, torch.inference_mode():
            views = ((), (-1,), (-2,), (-2, -1)) if tta else ((),)
            probability_KHW = torch.stack([self._probabilities(x_1CHW, axes) for axes in views]).mean(0).cpu()
        seconds = time.perf_counter() - start
        return _decide(probability_KHW, threshold, seconds, self.ignore_index)

    def _probabilities(self, x_1CHW: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Class probabilities (K, H, W) of the scan flipped along `axes`, turned back."""
        x_1CHW = x_1CHW.flip(axes).contiguous(memory_format=self._layout)
        with autocast(self._device, self._precision):
            logits = [predict_logits(network, x_1CHW) for network in self._networks]
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


def match_channels(image: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Bring (C, H, W) to the model's channels: grey is repeated, colour becomes its luma."""
    if image.shape[0] == channels:
        return image
    if image.shape[0] == 1:
        return np.repeat(image, channels, axis=0)
    return np.tensordot(np.asarray(GREY_WEIGHTS, np.float32), image, axes=1)[None].astype(np.float32)
