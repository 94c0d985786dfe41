"""A published model that answers as its training's validation did, with all class probabilities.

Shapes: C channels, K classes with background, *spatial pixels or voxels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.inference.channels import match_channels
from octa_backend.inference.model_folder import CARD_FILE, weights_of
from octa_backend.inference.probability import mean_probabilities
from octa_backend.inference.symmetries import FLIPS, mean_over_flips, mean_over_symmetries, symmetries_for
from octa_backend.inference.tiling import predict_logits, tile_of
from octa_backend.inference.volume_views import interpolated, whole_view
from octa_backend.models.regions import class_logits
from octa_backend.training.checkpoint import load_weights
from octa_backend.training.network import build_network
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast, memory_format, pick_device


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A published model in memory, with the plan of its training on the device that it now computes on.

    An ensemble has several networks, of which the probabilities are averaged. With `tta` the answer is the mean over
    the views of a prediction with it, eight or fewer, and takes as many times as long.
    """

    name: str
    card: Mapping[str, Any]
    plan: Plan
    networks: tuple[nn.Module, ...]
    tta: bool = False

    @property
    def common_spacing_mm(self) -> tuple[float, ...]:
        """Of the voxels it was trained on, (D, H, W); empty where they had the sizes of their files."""
        return tuple(self.card.get("common_spacing_mm", ()))

    @property
    def views(self) -> int:
        """Of how many views an answer is the mean."""
        if not self.tta:
            return 1
        return len(symmetries_for(self.card) if len(self.plan.patch_shape) == 2 else FLIPS)

    @torch.inference_mode()
    def probabilities(self, image: NDArray[np.generic], spacing_mm: Sequence[float] = ()) -> NDArray[np.float32]:
        """Probability of each class with background, (K, *spatial), of an image (C, *spatial) as decoded.

        Computed as in the training's own validation, in its arithmetic, so that the numbers are the same.

        Args:
            image: as decoded.
            spacing_mm: sides of its voxels, (D, H, W). A model that was trained on voxels of one size sees a volume
                with these, and its answer is brought back.
        """
        view = whole_view(image, spacing_mm, self.common_spacing_mm)
        found = self._probabilities(view.image)
        if view.places is not None:
            found = torch.cat(list(interpolated([found], view.places)), dim=1)
        answer: NDArray[np.float32] = found.numpy()
        return answer

    def _probabilities(self, image: NDArray[np.generic]) -> Tensor:
        unit_C = match_channels(to_unit(image), self.plan.channels)
        x_1C = torch.from_numpy(normalise(unit_C, self.plan.normalisation))[None].to(self.plan.device)
        if not self.tta:
            found = self._answer(self.networks, x_1C)
        elif len(self.plan.patch_shape) == 2:
            found = mean_over_symmetries(partial(self._answer, self.networks), x_1C, symmetries_for(self.card))
        else:
            found = self._answer([partial(mean_over_flips, network) for network in self.networks], x_1C)
        return found.float().cpu()

    def _answer(self, networks: Sequence[Callable[[Tensor], Tensor]], x_1C: Tensor) -> Tensor:
        """Class probabilities (K, *spatial) of what networks see, of (1, C, *spatial)."""
        layout = memory_format(self.plan.channels_last, len(self.plan.patch_shape))
        with autocast(self.plan.device, self.plan.config.precision):
            x_1C = x_1C.contiguous(memory_format=layout)
            logits = [predict_logits(network, x_1C, tile_of(self.plan.patch_shape)) for network in networks]
        return mean_probabilities([class_logits(one, self.plan.region_order) for one in logits])[0]


def open_model(folder: Path, wanted_device: str, *, tta: bool = False) -> EvaluatedModel:
    """Load a model's folder.

    Args:
        folder: of the model.
        wanted_device: the `device` setting.
        tta: see `EvaluatedModel`.

    Raises:
        IncompatibleCheckpoint: its card is of another version, or its weights do not fit.
        DeviceUnavailable: there is no such device.
    """
    return load_model(folder, json.loads((folder / CARD_FILE).read_text("utf-8")), wanted_device, tta=tta)


def load_model(folder: Path, card: Mapping[str, Any], wanted_device: str, *, tta: bool = False) -> EvaluatedModel:
    """The same with a card that need not be in the folder yet."""
    try:
        plan = Plan.model_validate(card["plan"])
    except ValidationError as error:
        raise IncompatibleCheckpoint(f"the plan in {folder / CARD_FILE} is of another version: {error}") from error
    plan = _moved(plan, str(pick_device(wanted_device)))
    networks = tuple(_network(plan, path) for path in weights_of(folder, card))
    return EvaluatedModel(folder.name, card, plan, networks, tta)


def _network(plan: Plan, weights: Path) -> nn.Module:
    network = build_network(plan).eval()
    load_weights(network, weights)
    return network


def _moved(plan: Plan, device: str) -> Plan:
    """The plan on another device, in the same arithmetic where it has that: `fp16` needs CUDA."""
    config = plan.config
    if config.precision == "fp16" and not device.startswith("cuda"):
        config = config.model_copy(update={"precision": "fp32"})
    return plan.model_copy(update={"device": device, "config": config})


def decide(probability: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Class indices (*spatial) from class probabilities (K, *spatial): from the threshold on, or the likeliest."""
    if probability.shape[0] == 2:
        # Compared in float32, as torch does: 0.3 is then the same number on both sides.
        return np.asarray(probability[1] >= np.float32(threshold), dtype=np.uint8)
    return np.asarray(probability.argmax(0), dtype=np.uint8)
