"""A trained network that answers: one scan in, mask and probabilities out.

Shapes: C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.normalise import Normalisation, normalise, to_unit
from octa_backend.inference.batching import BatchingEngine
from octa_backend.inference.channels import match_channels
from octa_backend.inference.decision import Prediction, decide
from octa_backend.inference.engines import Engine, open_engine
from octa_backend.inference.model_folder import member_folders, read_card, spatial_dims
from octa_backend.inference.pictures import class_colours
from octa_backend.inference.probability import mean_probabilities
from octa_backend.inference.symmetries import mean_over_symmetries, symmetries_for
from octa_backend.inference.tiling import predict_logits
from octa_backend.settings import EngineName
from octa_backend.training.precision import pick_device


class Predictor:
    """A published model in memory. Safe to use from several threads, whose scans are computed in batches.

    An ensemble's answer is the mean of its members' probabilities.

    Args:
        folder: of the model; its card is read.
        engines: one for each of the model's networks.

    Attributes:
        spatial_dims: 2; of models of volumes 3.
        channels: of the scans it was trained on.
        ignore_index: class of its dataset that was ignored, or None.
        classes: of its dataset, with background, also with one that was ignored and is never answered.
        labels: name and colour of class 0, 1, …; empty where the dataset said nothing about them.
        mask_values: the value of class 0, 1, … in the masks of its dataset; empty where its card does not say.
        tuned_threshold: the one of the highest mean Dice on its validation scans, or None.
        scan_statistics: what its training scans were like (see `distribution.summarise`), or None.
        engine: what it computes with, for people.
    """

    def __init__(self, folder: Path, engines: Sequence[Engine]) -> None:
        card = read_card(folder)
        self.spatial_dims = spatial_dims(card)
        self.channels: int = card["channels"]
        self.ignore_index: int | None = card.get("ignore_index")
        self.classes: int = card["classes"] + (self.ignore_index is not None)
        self.labels = tuple(ClassLabel(**label) for label in card.get("labels", ()))
        self.mask_values: tuple[int, ...] = tuple(card.get("mask_values", ()))
        tuned: dict[str, float] | None = card.get("tuned_threshold")
        self.tuned_threshold = tuned["threshold"] if tuned else None
        self.scan_statistics: dict[str, Any] | None = card.get("scan_statistics")
        self._normalisation: Normalisation = card.get("normalisation", "unit")
        self._symmetries = symmetries_for(card)
        self._engines = [BatchingEngine(engine) for engine in engines]
        self.engine = ", ".join(sorted({engine.name for engine in engines}))

    @property
    def colours(self) -> list[str]:
        """In which colour class 1, 2, … is drawn."""
        return class_colours(self.classes, self.labels)

    def predict(self, image: NDArray[np.generic], *, threshold: float = 0.5, tta: bool = False) -> Prediction:
        """Segment one scan.

        Args:
            image, tta: as in `probabilities`.
            threshold: a pixel is foreground from this probability on (binary models only).

        Returns:
            Mask and probabilities at the scan's own size.
        """
        start = time.perf_counter()
        probability_KHW = self.probabilities(image, tta=tta)
        return decide(probability_KHW, threshold, time.perf_counter() - start, self.ignore_index)

    def foreground(
        self,
        image: NDArray[np.generic],
        spacing_mm: Sequence[float] = (),  # noqa: ARG002 - models of volumes need it
    ) -> NDArray[np.float32]:
        """Probability of any class but background, (*spatial), 0..1, at the scan's own size.

        Args:
            image: as in `probabilities`.
            spacing_mm: of a volume, (D, H, W); empty where that is not known.
        """
        return self.predict(image).probability

    def probabilities(self, image: NDArray[np.generic], *, tta: bool = False) -> Tensor:
        """Probability of each of the network's classes with background, float32 (K, H, W), at the scan's own size.

        Args:
            image: (C, H, W) with one or three channels, uint8, uint16 or float32; brought to the model's channels.
            tta: average over the eight symmetries of the square, flips and right-angle turns, which takes eight times
                as long; over fewer where masks lie beside what they show, see `symmetries_for`.
        """
        unit_CHW = match_channels(to_unit(image), self.channels)
        x_1CHW = torch.from_numpy(normalise(unit_CHW, self._normalisation))[None]
        with torch.inference_mode():
            if tta:
                return mean_over_symmetries(self._answer, x_1CHW, self._symmetries).float()
            return self._answer(x_1CHW).float()

    def _answer(self, x_1CHW: Tensor) -> Tensor:
        """Class probabilities (K, H, W) of a normalised scan."""
        return mean_probabilities([predict_logits(engine, x_1CHW) for engine in self._engines])[0]


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
