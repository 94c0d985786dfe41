from __future__ import annotations

import pytest
import torch
from torch import nn

from octa_backend.training.dead_channels import DeadChannels
from tests.training.toys import Toy


def test_channel_that_is_0_everywhere_is_dead():
    network = Toy(first=(1, -1))
    dead = DeadChannels(network)
    dead.watch()
    network(torch.ones(2, 1, 4, 4))
    assert dead.fractions() == {"active": 0.5}


def test_one_pixel_of_one_pass_is_enough_to_be_alive():
    network = Toy(first=(1, -1))
    dead = DeadChannels(network)
    dead.watch()
    part = torch.ones(2, 1, 4, 4)
    part[1, 0, 3, 3] = -1
    network(torch.ones(2, 1, 4, 4))
    network(part)
    assert dead.fractions() == {"active": 0.0}


def test_hooks_are_there_only_while_it_watches():
    network = Toy(first=(1, -1))
    dead = DeadChannels(network)
    assert not network.active._forward_hooks
    network(torch.ones(1, 1, 2, 2))
    assert dead.fractions() == {}
    dead.watch()
    dead.watch()
    assert len(network.active._forward_hooks) == 1
    dead.stop()
    assert not network.active._forward_hooks


def test_watching_again_forgets_what_was_seen():
    network = Toy(first=(1, -1))
    dead = DeadChannels(network)
    dead.watch()
    network(-torch.ones(1, 1, 2, 2))
    dead.watch()
    network(torch.zeros(1, 1, 2, 2))
    assert dead.fractions() == {"active": 1.0}


def test_layers_with_one_value_per_scan_are_left_out():
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.GELU())
    dead = DeadChannels(network)
    dead.watch()
    network(torch.zeros(1, 3, 2, 2))
    assert dead.fractions() == {"0": 1.0}


def test_a_layer_that_is_used_with_several_numbers_of_channels_is_seen_with_each():
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Conv2d(4, 6, 1), relu)
    with torch.no_grad():
        network[1].weight.fill_(0)
        network[1].bias.copy_(torch.tensor([1.0, 1, 1, 1, 1, -1]))
    dead = DeadChannels(network)
    dead.watch()
    network(torch.ones(1, 4, 3, 3))
    assert dead.fractions() == {"0": pytest.approx(0.1)}  # one of 4 + 6
