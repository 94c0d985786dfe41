from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from octa_backend.training.config import TrainConfig
from octa_backend.training.optim import WeightAverage, learning_rate, make_optimizer


def rates(config, steps=1):
    return [learning_rate(config, e, s, steps) for e in range(1, config.epochs + 1) for s in range(1, steps + 1)]


# --- schedules ------------------------------------------------------------------------------------------------------


def test_constant_rate_stays():
    assert rates(TrainConfig(scheduler="constant", lr=0.01, epochs=3), steps=2) == [0.01] * 6


def test_step_schedule_falls_by_gamma_every_step_size_epochs():
    config = TrainConfig(scheduler="step", lr=0.01, step_size=2, gamma=0.5, epochs=5)
    assert rates(config) == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])


def test_step_schedule_does_not_move_within_an_epoch():
    config = TrainConfig(scheduler="step", lr=0.01, step_size=1, gamma=0.5, epochs=2)
    assert rates(config, steps=3) == pytest.approx([0.01] * 3 + [0.005] * 3)


def test_cosine_falls_from_the_start_to_nearly_zero():
    config = TrainConfig(scheduler="cosine", lr=0.01, epochs=4)
    quarter = (1 + math.sqrt(0.5)) / 2
    assert rates(config) == pytest.approx([0.01, 0.01 * quarter, 0.005, 0.01 * (1 - quarter)])


def test_cosine_moves_with_every_step():
    config = TrainConfig(scheduler="cosine", lr=0.01, epochs=2)
    assert learning_rate(config, epoch=2, step=1, steps=2) == pytest.approx(0.005)
    assert rates(config, steps=2) == pytest.approx(rates(TrainConfig(scheduler="cosine", lr=0.01, epochs=4)))


def test_onecycle_starts_at_a_25th_peaks_after_30_percent_and_ends_near_nothing():
    found = rates(TrainConfig(scheduler="onecycle", lr=0.01, epochs=20))
    assert found[0] == pytest.approx(0.01 / 25)
    assert found[3] == pytest.approx(0.01 * (1 + 1 / 25) / 2)  # 15 %: half way up the cosine
    assert found[6] == pytest.approx(0.01)
    assert found[13] == pytest.approx(0.01 * (1 + 1 / 25 * 1e-4) / 2)  # 65 %: half way down
    assert found[19] < found[0]
    assert found == sorted(found[:7]) + sorted(found[7:], reverse=True)


# --- optimizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cls"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_config_names_optimizer_rate_and_weight_decay(name, cls):
    network = nn.Linear(2, 1)
    optimizer = make_optimizer(network, TrainConfig(optimizer=name, lr=0.003, weight_decay=0.1))
    assert type(optimizer) is cls
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.003, 0.1)
    assert group["params"] == list(network.parameters())


# --- the running average --------------------------------------------------------------------------------------------


def weight(value):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_average_warms_up_by_hand():
    live, mean = weight(11.0), weight(0.0)
    average = WeightAverage(live, mean, decay=0.98)
    average.update()
    assert mean.weight.item() == pytest.approx(9)  # keeps (1 + 1) / (10 + 1) of 0, takes 9/11 of 11
    nn.init.constant_(live.weight, 21.0)
    average.update()
    assert mean.weight.item() == pytest.approx(9 * 3 / 12 + 21 * 9 / 12)


def test_decay_is_the_most_that_is_ever_kept():
    live, mean = weight(1.0), weight(0.0)
    average = WeightAverage(live, mean, decay=0.1)
    average.update()
    assert mean.weight.item() == pytest.approx(0.9)


def test_after_the_warm_up_the_decay_holds():
    live, mean = weight(1.0), weight(0.0)
    average = WeightAverage(live, mean, decay=0.98)
    average.steps = 10_000
    average.update()
    assert mean.weight.item() == pytest.approx(0.02)


def test_without_decay_the_average_is_the_live_weight():
    live, mean = weight(0.1), weight(123.0)
    WeightAverage(live, mean, decay=0.0).update()
    assert torch.equal(mean.weight, live.weight)


def test_statistics_are_averaged_and_counters_copied():
    live, mean = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    live.running_mean.fill_(11.0)
    live.num_batches_tracked.fill_(7)
    WeightAverage(live, mean, decay=0.98).update()
    assert mean.running_mean.item() == pytest.approx(9)
    assert mean.num_batches_tracked.item() == 7


def test_average_leaves_the_live_network_alone_and_asks_for_no_gradient():
    live, mean = weight(11.0), weight(0.0)
    WeightAverage(live, mean, decay=0.98).update()
    assert live.weight.item() == 11
    assert live.weight.requires_grad
    assert not mean.weight.requires_grad
