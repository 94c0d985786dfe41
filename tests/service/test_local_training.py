from __future__ import annotations

import pytest

from octa_backend.data.synthetic import write_zip
from octa_backend.service import local_training
from octa_backend.service.local_dataset import open_dataset
from octa_backend.service.start_service import StartOptions
from octa_backend.settings import Settings
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import EpochFinished
from tests.service.test_training_run import Advising
from tests.tiny import one_thread, tiny_networks


@pytest.mark.parametrize(("may_heal", "epochs", "lr"), [(True, 5, 0.02), (False, 3, 0.001)])
def test_a_training_heals_itself_where_it_may(tmp_path, monkeypatch, may_heal, epochs, lr):
    monkeypatch.setattr(local_training, "Watched", Advising)
    write_zip(tmp_path / "scans.zip", 4, size=32, seed=1)
    settings = Settings(data_dir=tmp_path / "data", device="cpu")
    seen = []
    with tiny_networks(), one_thread():
        config = TrainConfig(model="small_unet", epochs=3, lr=0.001, auto_heal=may_heal, start_checks=False)
        opened = open_dataset(tmp_path / "scans.zip", tmp_path / "out", config, settings, StartOptions(force=True))
        result = opened.training().train(seen.append, lambda: False)
    assert [event.epoch for event in seen if isinstance(event, EpochFinished)] == list(range(1, epochs + 1))
    assert result.card["plan"]["config"]["lr"] in (0.001, lr)
    assert len(result.card["plan"]["treatments"]) == (1 if may_heal and result.outcome.best.epoch > 2 else 0)
