"""A server with models of volumes whose masks are known (see `Brightness`), and one of pictures; what to send them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octa_backend.inference.model_folder import read_card
from octa_backend.inference.volume_predictor import VolumePredictor
from octa_backend.service import model_service, predict_service
from octa_backend.service.train_service import start
from octa_backend.storage.tables import Dataset
from octa_backend.training.config import TrainConfig
from tests.fakes import Api, a_dataset
from tests.predicting import predicting_api
from tests.volume_models import Brightness, publish_volumes, volume_card
from tests.volumes import SHAPE, nifti

VALUES = [0, 1, 2, 4]
LABELS = [{"name": name, "colour": None} for name in ("background", "core", "oedema", "enhancing")]
CARDS = {
    "one": volume_card(classes=4, mask_values=VALUES, labels=LABELS, normalisation="unit"),
    "two": volume_card(channels=2, normalisation="unit"),
}


def publish(api: Api, folder: Path, cards: dict[str, dict[str, Any]]) -> None:
    """Put models on the shelf, each with a job."""
    with api.parts.database.writing() as session:
        file_id = "d" * 20
        if session.get(Dataset, file_id) is None:
            a_dataset(session, file_id)
        for name, card in cards.items():
            if api.parts.files.model(name).exists():
                continue
            made = publish_volumes(folder / name, **card)
            model_service.write_model(api.parts.files.model(name), made / "weights.safetensors", card)
            model_service.register(session, name, start(session, file_id, TrainConfig()), card)


@contextmanager
def volume_api(folder: Path, cards: dict[str, dict[str, Any]] = CARDS, **settings: Any) -> Iterator[Api]:
    """The app on a data folder; models that are there from an earlier one stay."""

    def load(model: Path, *_: Any) -> VolumePredictor:
        return VolumePredictor(model, [Brightness(read_card(model)["classes"])])

    with predicting_api(folder, **settings) as api, pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_service, "load_predictor", load)
        publish(api, folder, cards)
        yield api


def predict(api: Api, files: dict[str, bytes], *, masks: Any = (), headers: Any = None, **fields: str) -> Any:
    """Send files, to the model `one` where none is named."""
    sent = [("file", (name, content)) for name, content in files.items()]
    sent += [("mask", (name, content)) for name, content in dict(masks).items()]
    return api.post("/predict", files=sent, data={"model_id": "one", **fields}, headers=headers or {})


def classes(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Any:
    """Class numbers of four in a file's order, 0 at the faces."""
    found = np.zeros(shape, np.uint8)
    inner = found[2:-3, 1:-2, 3:-1]
    inner[...] = np.random.default_rng(seed).integers(0, 4, inner.shape)
    return found


def volume(numbers: Any, affine: Any = None) -> bytes:
    """An image in which the model `one` sees these classes."""
    return nifti(numbers * np.uint8(85), affine)
