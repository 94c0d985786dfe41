"""Datasets and trainings of the benchmarks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_recipe import plain_loss, train_plainly
from training_runs import SYNTHETIC, Data, with_training_seconds

from octa_backend.data.intake import prepare
from octa_backend.data.splits import assign_splits
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import write_zip
from octa_backend.service.dataset_service import limits
from octa_backend.settings import Settings
from tests.tiny import one_thread, synthetic_pairs, tiny_networks, write_store


def test_an_absent_zip_is_named_with_what_to_do(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"absent.zip is not there; give .* --data synthetic"):
        Data(str(tmp_path / "absent.zip")).job()


def test_a_dataset_is_told_by_its_content(tmp_path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"one")
    first = Data(str(path)).job()
    path.write_bytes(b"two")
    assert first["sha256"] != Data(str(path)).job()["sha256"]
    assert Data(SYNTHETIC, 4).job() == {"data": SYNTHETIC, "hold_out": 4}


def test_whole_patients_are_held_out_in_a_copy_that_is_the_same_each_time(tmp_path) -> None:
    source = tmp_path / "scans.zip"
    write_zip(source, 8, size=32)  # of four patients
    before = source.read_bytes()
    copy = Data(str(source), hold_out=2).zip_in(tmp_path)
    first = copy.read_bytes()
    assert Data(str(source), hold_out=2).zip_in(tmp_path).read_bytes() == first
    assert source.read_bytes() == before
    prepare(copy, tmp_path / "prepared", limits(Settings()))
    splits = [scan.split for scan in DatasetStore(tmp_path / "prepared").manifest.scans]
    assert splits == ["train", "train", "test", "test"] * 2


def test_nothing_is_copied_where_nothing_is_held_out(tmp_path) -> None:
    assert Data(str(tmp_path / "scans.zip")).zip_in(tmp_path) == tmp_path / "scans.zip"


def test_seconds_of_training_are_added_up_from_rates() -> None:
    epochs = [
        {"epoch": n, "val_dice": 0.5, "scans_per_second": rate, "peak_memory_mb": 1.0, "seconds": 99.0}
        for n, rate in ((1, 2.0), (2, 4.0))
    ]
    assert [epoch["training_seconds"] for epoch in with_training_seconds(epochs, 8)] == [4.0, 6.0]


def test_the_plain_loss_weighs_cross_entropy_and_dice() -> None:
    logits, mask = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    # Every probability is 0.5: BCE is ln 2, soft Dice (2 * 1 + 1) / (2 + 2 + 1).
    assert float(plain_loss(logits, mask)) == pytest.approx(0.3 * np.log(2) + 0.7 * (1 - 3 / 5))
    assert float(plain_loss(logits, mask, bce_weight=0.0, dice_weight=1.0)) == pytest.approx(0.4)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "prepared", synthetic_pairs(6))


def train(store, **changes):
    options = {"minutes": 10.0, "epochs": 2, **changes}
    config = {"model": "small_unet", "epochs": options["epochs"], "seed": 1}
    splits = assign_splits(store.manifest.scans, 0.2, 1)
    with one_thread(), tiny_networks():
        return train_plainly(store, splits, config, options["minutes"], "cpu")


def test_the_plain_recipe_trains_every_epoch_and_keeps_the_best(store) -> None:
    found = train(store)
    dices = [epoch["val_dice"] for epoch in found["history"]]
    assert len(dices) == 2
    assert found["val_dice"] == max(dices) == dices[found["best_epoch"] - 1]
    assert found["history"][1]["training_seconds"] > found["history"][0]["training_seconds"] > 0
    assert found["scans"] == [5, 1, 0]
    assert found["test"] is None


def test_the_plain_recipe_gives_up_after_its_minutes(store) -> None:
    assert len(train(store, minutes=1e-9, epochs=50)["history"]) == 1


def test_the_plain_recipe_refuses_scans_of_several_sizes(tmp_path) -> None:
    pairs = [*synthetic_pairs(2), *synthetic_pairs(1, size=48)]
    with pytest.raises(SystemExit, match="2 sizes"):
        train(write_store(tmp_path / "mixed", pairs))
