"""A server with published models of random weights, for the tests of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import update

from octa_backend.models import registry
from octa_backend.service import model_service
from octa_backend.service.train_service import start
from octa_backend.settings import Settings
from octa_backend.storage.prediction_tables import PredictionJob
from octa_backend.storage.tables import Dataset
from octa_backend.training import precision
from octa_backend.training.checkpoint import save_weights
from octa_backend.training.config import TrainConfig
from tests.fakes import Api, a_dataset
from tests.tiny import SLOW_CPU, one_thread

CARD = {"network": "tiny_unet", "channels": 1, "classes": 2}


def publish(api: Api, folder: Path, *names: str) -> None:
    """Put models of random weights on the shelf, each with a job."""
    torch.manual_seed(0)
    save_weights(registry.build("tiny_unet", 1, 1), folder / "weights.safetensors")
    with api.parts.database.writing() as session:
        file_id = "d" * 20
        if session.get(Dataset, file_id) is None:
            a_dataset(session, file_id)
        for name in names:
            model_service.write_model(api.parts.files.model(name), folder / "weights.safetensors", CARD)
            model_service.register(session, name, start(session, file_id, TrainConfig()), CARD)


@contextmanager
def predicting_api(folder: Path, *, data: str = "data", runner: Any = None, **settings: Any) -> Iterator[Api]:
    """The app on a data folder; computes on one thread and without asking how quick the machine is."""
    found = Settings(data_dir=folder / data, device="cpu", engine="torch", **settings)
    given = {} if runner is None else {"runner": runner}
    with Api(found, **given) as api, pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(precision, "probe", lambda device: SLOW_CPU)  # measuring takes a second or more
        yield api


def predict(api: Api, *scans: bytes, headers: dict[str, str] | None = None, **fields: str) -> Any:
    """Send scans named scan0.png, scan1.png, …"""
    files = [("file", (f"scan{n}.png", scan, "image/png")) for n, scan in enumerate(scans)]
    return api.post("/predict", files=files, data=fields, headers=headers or {})


def end_prediction_jobs(api: Api) -> None:
    """Delete all prediction jobs of a server, those that are under way too."""
    with api.parts.database.writing() as session:
        session.execute(update(PredictionJob).values(state="cancelled"))
    for job in api.get("/predictions/jobs").json()["items"]:
        assert api.delete(f"/predictions/jobs/{job['prediction_job_id']}").status_code == 204
