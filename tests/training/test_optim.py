from __future__ import annotations

import pytest
import torch
from torch import nn

from octa_backend.models.unet import UNet_Transformer
from octa_backend.training.config import TrainConfig
from octa_backend.training.optim import WeightAverage, make_optimizer, parameter_groups, restore_optimizer

# --- optimizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_config_names_optimizer_rate_and_weight_decay(name, cls):
    network = nn.Linear(2, 1)
    optimizer = make_optimizer(network, TrainConfig(optimizer=name, lr=0.003, weight_decay=0.1))
    assert type(optimizer) is cls
    weights, biases = optimizer.param_groups
    assert (weights["lr"], weights["weight_decay"], weights["params"]) == (0.003, 0.1, [network.weight])
    assert (biases["lr"], biases["weight_decay"], biases["params"]) == (0.003, 0, [network.bias])


def one_parameter(value=1.0):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def step_with_gradient_1(network, optimizer):
    network.weight.grad = torch.ones(1, 1)
    optimizer.step()
    return network.weight.item()


def test_gradient_descent_without_momentum_by_hand():
    network = one_parameter()
    optimizer = make_optimizer(network, TrainConfig(optimizer="sgd", lr=0.1, momentum=0))
    assert [step_with_gradient_1(network, optimizer) for _ in range(2)] == pytest.approx([0.9, 0.8])


def test_momentum_by_hand():
    network = one_parameter()
    optimizer = make_optimizer(network, TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5))
    assert [step_with_gradient_1(network, optimizer) for _ in range(2)] == pytest.approx([0.9, 0.75])  # 1, then 1.5


def test_nesterov_momentum_by_hand():
    network = one_parameter()
    optimizer = make_optimizer(network, TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5, nesterov=True))
    # 1 + 0.5 * 1, then 1 + 0.5 * 1.5
    assert [step_with_gradient_1(network, optimizer) for _ in range(2)] == pytest.approx([0.85, 0.675])


def test_weight_decay_spares_biases_and_norms():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(4), nn.Linear(4, 1))
    decayed, spared = parameter_groups(network, 0.1)
    assert decayed == {"params": [network[0].weight, network[4].weight], "weight_decay": 0.1}
    assert len(spared["params"]) == 8
    assert spared["weight_decay"] == 0


def test_weight_decay_spares_position_biases_of_two_axes():
    network = nn.Linear(2, 2, bias=False)
    network.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
    decayed, spared = parameter_groups(network, 0.1)
    assert decayed["params"] == [network.weight]
    assert spared["params"] == [network.relative_position_bias_table]


def test_every_parameter_is_in_one_group():
    network = UNet_Transformer(1, 1, features=(4, 8))
    grouped = [id(parameter) for group in parameter_groups(network, 0.1) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


def test_empty_group_is_left_out():
    (group,) = parameter_groups(one_parameter(), 0.1)
    assert group["weight_decay"] == 0.1


def test_restored_optimizer_keeps_its_moments_and_takes_the_configs_options():
    network = one_parameter()
    before = make_optimizer(network, TrainConfig(optimizer="sgd", lr=0.1, momentum=0.5))
    step_with_gradient_1(network, before)
    after = make_optimizer(network, TrainConfig(optimizer="sgd", lr=0.2, momentum=0.9, weight_decay=0.3))
    restore_optimizer(after, before.state_dict())
    (group,) = after.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.2, 0.9, 0.3)
    assert after.state[network.weight]["momentum_buffer"].item() == 1


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
