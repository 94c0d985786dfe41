"""A trained network that answers for volumes: one case in, mask and probabilities out, in bounded memory.

Whatever the volume's depth, probabilities are in memory for the depth of the training's patches alone; of several
models together, which cut the volume differently, for the whole of it.

Shapes: C channels, D x H x W voxels, d of D slices, K classes with background.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.data.volume_case import Channels
from octa_backend.errors import ModelDoesNotFit, ScanDoesNotFit
from octa_backend.inference.decision import decide
from octa_backend.inference.engines import Engine, open_engine
from octa_backend.inference.model_folder import member_folders, read_card
from octa_backend.inference.predictor import Predictor
from octa_backend.inference.probability import mean_probabilities
from octa_backend.inference.symmetries import mean_over_flips
from octa_backend.inference.thresholds import otsu
from octa_backend.inference.tiling import logit_slabs
from octa_backend.inference.volume_views import SLAB, View, interpolated, whole_view
from octa_backend.settings import EngineName
from octa_backend.training.precision import pick_device


class VolumePredictor(Predictor):
    """A published model of volumes in memory. Safe to use from several threads.

    Attributes:
        modalities: its channels.
        normalisation: of the volumes it was trained on.
        common_spacing_mm: (D, H, W), of the voxels it was trained on; empty where they had the sizes of their files.
    """

    def __init__(self, folder: Path, engines: Sequence[Engine]) -> None:
        super().__init__(folder, engines)
        card = read_card(folder)
        self.modalities = Channels(self.channels, tuple(card.get("modalities", ())))
        self.normalisation = self._normalisation
        self.common_spacing_mm: tuple[float, ...] = tuple(card.get("common_spacing_mm", ()))
        self._tile: tuple[int, ...] = tuple(card["patch_shape"])

    def foreground(self, image: NDArray[np.generic], spacing_mm: Sequence[float] = ()) -> NDArray[np.float32]:
        """As `Predictor.foreground`: slab by slab, through the voxels that the model was trained on.

        Raises:
            ModelDoesNotFit: the volume has other channels; or the model wants voxels of one size and these are of none.
        """
        if image.shape[0] != self.channels:
            raise ModelDoesNotFit(
                f"the volume has {image.shape[0]} channels, but the model was trained on {self.channels}: "
                f"{self.modalities.listed}"
            )
        if self.common_spacing_mm and not spacing_mm:
            raise ModelDoesNotFit(
                "the model was trained on voxels of one size, but the volume does not say how large its own are"
            )
        view = whole_view(image, spacing_mm, self.common_spacing_mm)
        return np.concatenate([1 - slab_KDHW[0].numpy() for slab_KDHW in _slabs(self, view, tta=False)])

    def probabilities(self, image: NDArray[np.generic], *, tta: bool = False) -> Tensor:
        """Probability of each of the network's classes with background, float32 (K, D, H, W); see `slabs`."""
        return torch.cat(list(self.slabs(image, tta=tta)), dim=1)

    @torch.inference_mode()
    def slabs(self, image: NDArray[np.generic], *, tta: bool = False) -> Iterator[Tensor]:
        """The same, slab by slab along D.

        Args:
            image: (C, D, H, W) of the model's channels, uint8, uint16 or float32.
            tta: average each tile's logits over its eight flips, which takes eight times as long.

        Yields:
            float32, (K, d, H, W); d adds up to D.
        """
        x_1C = torch.from_numpy(normalise(to_unit(image), self._normalisation))[None]
        networks = [partial(mean_over_flips, engine) if tta else engine for engine in self._engines]
        for logits in zip(*(logit_slabs(network, x_1C, self._tile) for network in networks), strict=True):
            yield mean_probabilities(logits)[0]


@dataclass(frozen=True, slots=True)
class VolumePrediction:
    """What models say of one volume.

    Attributes:
        mask: uint8, (D, H, W), class indices of the dataset.
        probability: uint8, (K, D, H, W), of each of the network's classes, 0..255; None where it was not wanted.
        confidence: mean probability of the class chosen, in 0..1.
        uncertain_fraction: see `Prediction`.
        seconds: that it took.
        threshold: from which a voxel is foreground.
        certainty: uint8, (D, H, W), probability of the class chosen, 0..255; None where it was not wanted.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.uint8] | None
    confidence: float
    uncertain_fraction: float
    seconds: float
    threshold: float
    certainty: NDArray[np.uint8] | None = None


def predict_volume(
    models: Sequence[Predictor],
    image: NDArray[np.generic],
    threshold: float,
    *,
    tta: bool = False,
    with_probability: bool = False,
) -> VolumePrediction:
    """Segment one volume as it is; see `predict_views`."""
    views = [View(image)] * len(models)
    return predict_views(models, views, threshold, tta=tta, with_probability=with_probability)


def predict_views(
    models: Sequence[Predictor],
    views: Sequence[View],
    threshold: float | None,
    *,
    tta: bool = False,
    with_probability: bool = False,
    with_certainty: bool = False,
) -> VolumePrediction:
    """Segment one volume; of several models the mean of their probabilities.

    Args:
        models: `VolumePredictor`s of the same classes, at least one.
        views: what each of them sees; all are answered for the same voxels.
        tta: see `VolumePredictor.slabs`.
        threshold: a voxel is foreground from this probability on (binary models only); None: from Otsu's of this
            volume on, for which its probabilities are in memory as a whole.
        with_probability: keep the probabilities, rounded to 8 bits.
        with_certainty: likewise that of the class chosen.

    Raises:
        ScanDoesNotFit: a model is one of pictures.
    """
    start = time.perf_counter()
    masks, shares, certainties, confidence, uncertain = [], [], [], 0.0, 0.0
    slabs = _mean_slabs(_volumetric(models), views, tta=tta)
    if threshold is None:
        slabs = iter(whole := list(slabs))
        threshold = otsu(np.concatenate([1 - slab_KDHW[0].numpy() for slab_KDHW in whole]))
    for probability_KDHW in slabs:
        found = decide(probability_KDHW, threshold, 0.0, models[0].ignore_index)
        masks.append(found.mask)
        confidence += found.confidence * found.mask.size
        uncertain += found.uncertain_fraction * found.mask.size
        if with_probability:
            shares.append(probability_KDHW.mul(255).round().to(torch.uint8).numpy())
        if with_certainty:
            certainties.append(np.rint(found.certainty * 255).astype(np.uint8))
    mask = np.concatenate(masks)
    return VolumePrediction(
        mask=mask,
        probability=np.concatenate(shares, axis=1) if with_probability else None,
        confidence=confidence / mask.size,
        uncertain_fraction=uncertain / mask.size,
        seconds=time.perf_counter() - start,
        threshold=threshold,
        certainty=np.concatenate(certainties) if with_certainty else None,
    )


def _volumetric(models: Sequence[Predictor]) -> list[VolumePredictor]:
    found = [model for model in models if isinstance(model, VolumePredictor)]
    if len(found) < len(models):
        raise ScanDoesNotFit("the scan is a volume, but the model was trained on pictures")
    return found


def _slabs(model: VolumePredictor, view: View, *, tta: bool) -> Iterator[Tensor]:
    slabs = model.slabs(view.image, tta=tta)
    return slabs if view.places is None else interpolated(slabs, view.places)


def _mean_slabs(models: Sequence[VolumePredictor], views: Sequence[View], *, tta: bool) -> Iterator[Tensor]:
    if len(models) == 1:
        yield from _slabs(models[0], views[0], tta=tta)
        return
    total: Tensor | None = None
    for model, view in zip(models, views, strict=True):
        first = 0
        for slab_KDHW in _slabs(model, view, tta=tta):
            if total is None:
                total = torch.zeros(slab_KDHW.shape[0], *view.shape)
            total[:, first : first + slab_KDHW.shape[1]] += slab_KDHW / len(models)
            first += slab_KDHW.shape[1]
    assert total is not None
    yield from torch.split(total, SLAB, dim=1)


def open_volume_predictor(folder: Path, wanted_device: str, wanted_engine: EngineName = "auto") -> VolumePredictor:
    """Load a published model of volumes; see `open_predictor`."""
    card, device = read_card(folder), pick_device(wanted_device)
    return VolumePredictor(
        folder, [open_engine(member, card, device, wanted_engine) for member in member_folders(folder, card)]
    )
