from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from octa_backend.training import run as run_module
from octa_backend.training import trainer
from octa_backend.training.norm_statistics import measure_statistics
from tests.training.runs import epochs, numbers, steps, train

pytestmark = pytest.mark.usefixtures("tiny_registry")


def test_statistics_are_the_mean_over_the_batches_whatever_they_were():
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.fill_(7.0)
    batches = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) + seed for seed in range(3)]
    measure_statistics(nn.Sequential(norm), batches)
    torch.testing.assert_close(norm.running_mean, torch.stack([one.mean((0, 2, 3)) for one in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([one.var((0, 2, 3)) for one in batches]).mean(0))
    assert (norm.momentum, norm.training) == (0.1, False)


def test_all_else_stays_as_it_is():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True), nn.BatchNorm2d(2), nn.Dropout(0.5)
    ).eval()
    before = copy.deepcopy(network.eval())
    measure_statistics(network, [torch.rand(2, 1, 8, 8)])
    assert not any(module.training for module in network.modules())
    for (name, now), was in zip(network.state_dict().items(), before.state_dict().values(), strict=True):
        if not name.startswith("2."):
            assert torch.equal(now, was)


def test_a_young_run_is_validated_with_statistics_of_its_last_batches(tmp_path, data, monkeypatch):
    monkeypatch.setattr(run_module, "YOUNG_STEPS", 4)
    seen = []
    monkeypatch.setattr(trainer, "measure_statistics", lambda network, parts: seen.append([len(one) for one in parts]))
    events, _ = train(tmp_path, data, epochs=4)
    assert len(steps(events)) == 8
    assert seen == [[2, 2], [2, 2]]


def test_a_short_run_finds_in_validation_what_it_finds_in_training(tmp_path, data, monkeypatch):
    options = {"epochs": 6, "lr": 0.02, "scheduler": "constant", "augmentation": "none"}
    measured, _ = train(tmp_path / "measured", data, **options)
    monkeypatch.setattr(run_module, "YOUNG_STEPS", 0)
    lagging, _ = train(tmp_path / "lagging", data, **options)
    assert [one.train_loss for one in epochs(measured)] == [one.train_loss for one in epochs(lagging)]
    gaps = [epochs(events)[-1].val_loss - epochs(events)[-1].train_loss for events in (measured, lagging)]
    assert gaps[0] < gaps[1]


def test_a_young_run_that_is_resumed_validates_as_one_that_was_not(tmp_path, data):
    straight, _ = train(tmp_path / "straight", data, epochs=4)
    train(tmp_path / "stopped", data, epochs=2)
    resumed, _ = train(tmp_path / "stopped", data, epochs=4)
    assert numbers(epochs(resumed)[-1]) == numbers(epochs(straight)[-1])
