from __future__ import annotations

import tempfile
from dataclasses import replace

import numpy as np
import pytest

from octa_backend.data.synthetic import write_zip
from octa_backend.errors import InvalidDataset, ModelNotFound
from octa_backend.service import experiment, plan_preview
from octa_backend.service.plan_preview import SHOWN, preview
from octa_backend.service.start_service import StartOptions
from octa_backend.settings import Settings
from octa_backend.training.config import TrainConfig
from tests.data.zips import dataset, encoded, zip_of
from tests.held import KNOWN, held_at_removal
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs
from tests.volumes import msd_files


@pytest.fixture
def zip_file(tmp_path, monkeypatch):
    """Four synthetic scans on a device whose speed is not measured; temporary folders are made in `tmp`."""
    for module in (experiment, plan_preview):
        monkeypatch.setattr(module, "probe", lambda device: SLOW_CPU)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    write_zip(tmp_path / "scans.zip", 4, size=32, seed=1)
    return tmp_path / "scans.zip"


def previewed(zip_file, **options):
    config = TrainConfig(**{"model": "tiny_unet", **options})
    with one_thread():
        return preview(zip_file, config, Settings(device="cpu"), StartOptions())


def why(found, name):
    (field,) = [field for field in found.fields if field.field == name]
    return field.value, field.why


def test_plan_is_complete_and_measured_and_nothing_is_kept(zip_file, tmp_path):
    found = previewed(zip_file)
    assert found.plan.epochs == 200
    assert found.steps == 1  # two scans train, in one batch
    assert found.plan.estimate.parameters > 60_000
    assert found.epoch_seconds > 0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["scans.zip"]


@KNOWN
def test_nothing_is_held_of_the_folder_that_is_removed(zip_file, monkeypatch):
    def fail(plan, data):
        raise RuntimeError(len(data.train))

    noted = held_at_removal(monkeypatch)
    previewed(zip_file)
    monkeypatch.setattr(plan_preview, "step_seconds", fail)
    with pytest.raises(RuntimeError):
        previewed(zip_file)
    assert noted == [set(), set()]


def test_seconds_of_an_epoch_are_the_mean_over_a_run_whose_patches_grow(tmp_path, zip_file, monkeypatch):
    write_zip(tmp_path / "larger.zip", 4, size=64, seed=1)
    monkeypatch.setattr(plan_preview, "step_seconds", lambda plan, data: 8.0)
    found = previewed(tmp_path / "larger.zip", patch_growth="on", patch_size=64, epochs=10)
    assert found.epoch_seconds == pytest.approx(8 * (1 / 4 + 9 / 16 + 8) / 10)


def test_every_field_says_why_it_is_so(zip_file):
    found = previewed(zip_file, lr=0.01)
    assert [field.field for field in found.fields][: len(SHOWN)] == list(SHOWN)
    assert why(found, "model") == ("tiny_unet", "as you set it")
    assert why(found, "lr") == (0.01, "as you set it")
    assert why(found, "augmentation") == ("standard", "the default")
    assert "steps" in why(found, "epochs")[1]
    assert all(field.why and field.value != "auto" for field in found.fields)


def test_rate_that_a_range_test_would_find_stays_open_and_it_is_said(zip_file):
    value, reason = why(previewed(zip_file, lr="auto"), "lr")
    assert value == "auto"
    assert "range test" in reason


def test_findings_of_data_and_division_come_along(zip_file):
    assert {"few_scans", "few_validation_scans"} <= {finding.code for finding in previewed(zip_file).findings}


def test_step_that_the_memory_would_not_hold_is_not_tried(zip_file, monkeypatch):
    monkeypatch.setattr(plan_preview, "probe", lambda device: replace(SLOW_CPU, memory_mib=1))
    assert previewed(zip_file).epoch_seconds is None


def test_a_cross_validation_is_planned_as_its_first_fold(zip_file):
    found = previewed(zip_file, folds=2, val_fraction=0.3)
    assert found.plan.fingerprint.training_scans == 2
    value, reason = why(found, "val_fraction")
    assert value == 0.3
    assert reason.startswith("this has no effect with folds=2")


def test_remedy_that_sets_a_field_is_its_reason(zip_file):
    with one_thread():
        found = preview(zip_file, TrainConfig(epochs=1), Settings(device="cpu"), StartOptions(repair="auto"))
    assert why(found, "model") == ("unet", "set by a remedy")


def test_weights_that_are_not_there_are_told_before_a_training(zip_file, tmp_path):
    with pytest.raises(ModelNotFound):
        previewed(zip_file, pretrained=str(tmp_path / "weights.safetensors"))


def test_the_default_rate_of_volumes_is_not_said_to_be_set(zip_file, tmp_path):
    content = zip_of(tmp_path / "volumes.zip", msd_files())
    assert why(previewed(content, model="tiny_unet"), "lr") == (0.003, "the default")
    assert why(previewed(content, model="tiny_unet", lr=0.001), "lr") == (0.001, "as you set it")


def scarce(tmp_path):
    """Scans of 64 pixels, of which ten each are foreground: 0.24 %."""
    files = {}
    for number, (image, _) in enumerate(synthetic_pairs(6, 64)):
        mask = np.zeros((64, 64), np.uint8)
        mask[8 + number, 10:20] = 255
        files[f"images/{number}.png"], files[f"masks/{number}.png"] = encoded(image[0]), encoded(mask)
    return zip_of(tmp_path / "scarce.zip", files)


def test_scarce_foreground_is_weighed_by_the_plan_where_a_repair_is_left_to_itself(zip_file, tmp_path):
    archive, repair = scarce(tmp_path), StartOptions(repair="auto")
    with pytest.raises(InvalidDataset, match=r"mean foreground only 0\.24 %"):
        previewed(archive)
    with one_thread():
        beside_dice = preview(archive, TrainConfig(model="tiny_unet"), Settings(device="cpu"), repair)
        alone = preview(archive, TrainConfig(model="tiny_unet", loss="bce"), Settings(device="cpu"), repair)
    value, reason = why(beside_dice, "pos_weight")
    assert (value, "the Dice part does without" in reason) == (None, True)
    assert why(alone, "pos_weight")[0] == 100


def test_data_with_errors_are_refused_as_for_a_training(tmp_path):
    archive = zip_of(tmp_path / "bad.zip", {name: data for name, data in dataset().items() if "mask" not in name})
    with pytest.raises(InvalidDataset):
        preview(archive, TrainConfig(), Settings(device="cpu"), StartOptions())
