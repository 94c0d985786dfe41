"""Planted runs are trained for real, the same way each time, and kept with all that the doctor looks at."""

from __future__ import annotations

import math

import planted_networks
import pytest
import torch
import training_sets
from judged_runs import HISTORY, judge
from recorded_runs import record, weights_path

from octa_backend.training import start_checks
from tests.benchmarks.judged import a_job
from tests.training.runs import TIMES


@pytest.fixture(autouse=True, scope="module")
def _small():
    """Few small scans, and short checks before the first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_sets, "TRAIN", 4)
        patch.setattr(training_sets, "VAL", 2)
        patch.setitem(training_sets.SIDES, "drawn", 32)
        patch.setattr(start_checks, "OVERFIT_STEPS", 2)
        patch.setattr(start_checks, "FEWEST_SWEPT", math.inf)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)
    training_sets.sound_scans.cache_clear()


def a_short_job(case, *remedies, epochs=2):
    return a_job(case) | {"epochs": epochs, "remedies": list(remedies)}


def without_clocks(found):
    epochs = found["history"]["epochs"]
    for epoch in epochs:
        epoch["signals"] = {name: value for name, value in epoch["signals"].items() if name not in TIMES}
    return epochs, found["history"]["start"], found["dice"]


def test_a_recorded_run_has_epochs_signals_start_checks_and_a_dice(tmp_path):
    job = a_short_job("clean")
    found = record(job, tmp_path)
    history = HISTORY.validate_python(found["history"])
    assert [epoch.epoch for epoch in history.epochs] == [1, 2]
    assert history.epochs[0].signals.update_ratios
    assert history.start.overfit_steps == 2
    assert (history.facts.train_scans, history.facts.val_scans, history.facts.parameters) == (4, 2, 67_794)
    assert found["dice"] == pytest.approx(max(epoch.val_dice for epoch in history.epochs))
    assert weights_path(tmp_path, job).exists()
    assert judge(history).verdict is None


def test_the_same_job_gives_the_same_numbers(tmp_path):
    job = a_short_job("deep_without_norms")
    first, second = (without_clocks(record(job, tmp_path)) for _ in range(2))
    assert first == second


def test_a_child_begins_with_the_best_weights_of_its_parent_where_the_remedy_says_so(tmp_path):
    remedy = {"code": "raise_lr", "changes": {"lr": 1e-6}, "from_checkpoint": True}
    parent = record(a_short_job("clean", epochs=6), tmp_path)
    goes_on = record(a_short_job("clean", remedy, epochs=6), tmp_path)
    fresh = record(a_short_job("clean", {**remedy, "from_checkpoint": False}, epochs=6), tmp_path)
    losses = [found["history"]["epochs"][0]["train_loss"] for found in (parent, goes_on, fresh)]
    assert losses[1] < losses[2]
    assert goes_on["history"]["facts"]["config"]["lr"] == 1e-6


def test_a_repaired_set_is_trained_on_where_the_remedy_is_one_of_the_dataset(tmp_path):
    case = "masks_grey"
    faulty = record(a_short_job(case), tmp_path)
    remedy = {"code": "binarize_masks", "changes": {}, "from_checkpoint": False}
    mended = record(a_short_job(case, remedy), tmp_path)
    findings = [found["history"]["facts"]["data_findings"] for found in (faulty, mended)]
    assert ["masks_not_binary" in one for one in findings] == [True, False]


def test_emulated_fp16_overflows_and_the_doctor_is_told_of_fp16(tmp_path, monkeypatch):
    monkeypatch.setattr(planted_networks, "CALLS_TO_DOUBLE", 0.5)
    found = record(a_short_job("fp16_overflow", epochs=8), tmp_path)
    history = HISTORY.validate_python(found["history"])
    assert history.non_finite is not None
    assert history.facts.config["precision"] == "fp16"
    assert judge(history).remedy.code == "full_precision"
