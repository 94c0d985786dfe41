"""The first answer of a model is slow, because its engine picks kernels and takes memory; it is made in advance."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octa_backend.data.store import DatasetStore
from octa_backend.inference.model_folder import nearby_dataset, read_card, spatial_dims
from octa_backend.inference.predictor import Predictor

USUAL_SHAPE = (256, 256)
"""Of scans where the dataset is not there to tell, pixels."""


def warm_up(predictor: Predictor, folder: Path) -> None:
    """Answer an empty scan of the size that the model was trained on: of volumes, of its patches.

    Args:
        predictor: the model in memory.
        folder: of it.
    """
    card = read_card(folder)
    if spatial_dims(card) == 3:
        predictor.probabilities(np.zeros((predictor.channels, *card["patch_shape"]), np.uint8))
        return
    dataset = nearby_dataset(folder, card)
    shape = DatasetStore(dataset).manifest.scans[0].shape if dataset else USUAL_SHAPE
    predictor.predict(np.zeros((predictor.channels, *shape), np.uint8))
