from __future__ import annotations

import pytest
import torch

from octa_backend.training.weight_changes import WeightChanges
from tests.training.toys import Toy


def moved(network, first, second, changes, *, every_layer=False):
    """Change the weights as a step would, watched."""
    changes.before_update(every_layer=every_layer)
    with torch.no_grad():
        network.first.weight.add_(torch.tensor(first).view(2, 1, 1, 1))
        network.second.weight.add_(torch.tensor(second).view(1, 2, 1, 1))
    changes.after_update()


def test_ratio_of_a_group_is_the_length_of_its_change_over_that_of_its_weights():
    network = Toy(first=(3, 0), second=(1, 1))
    changes = WeightChanges(network)
    moved(network, (0.0, 4.0), (5.0, 7.0), changes)  # to (3, 4), which is 5 long, and to (6, 8), which is 10 long
    ratios = changes.group_ratios()
    assert ratios["encoder_conv1"] == ratios["encoder_last"] == pytest.approx(4 / 5)
    assert ratios["decoder_first"] == ratios["decoder_output"] == pytest.approx(74**0.5 / 10)
    assert changes.group_norms() == pytest.approx(
        {"encoder_conv1": 5, "encoder_last": 5, "decoder_first": 10, "decoder_output": 10}
    )


def test_ratios_are_the_mean_over_the_steps_that_were_measured():
    network = Toy(first=(3, 4))
    changes = WeightChanges(network)
    moved(network, (0.0, 0.0), (0.0, 0.0), changes)
    with torch.no_grad():
        network.first.weight.mul_(7)  # between two measured steps: not seen
        network.first.weight.copy_(torch.tensor([3.0, 0.0]).view(2, 1, 1, 1))
    moved(network, (0.0, 4.0), (0.0, 0.0), changes, every_layer=True)
    assert changes.group_ratios()["encoder_conv1"] == pytest.approx((0 + 4 / 5) / 2)
    assert changes.group_ratios()["decoder_output"] == 0


def test_layers_have_the_ratio_of_the_last_step_at_which_all_were_measured():
    network = Toy(first=(3, 0))
    changes = WeightChanges(network)
    assert changes.layer_ratios() == changes.layer_gradients() == {}
    moved(network, (0.0, 4.0), (0.0, 0.0), changes, every_layer=True)
    moved(network, (1.0, 1.0), (1.0, 1.0), changes)
    assert changes.layer_ratios() == pytest.approx({"first": 4 / 5, "second": 0})


def test_layers_gradients_are_measured_with_them_and_are_0_where_there_are_none():
    network = Toy()
    changes = WeightChanges(network)
    network.first.weight.grad = torch.tensor([3.0, 4.0]).view(2, 1, 1, 1)
    moved(network, (0.0, 0.0), (0.0, 0.0), changes, every_layer=True)
    assert changes.layer_gradients() == pytest.approx({"first": 5, "second": 0})


def test_weights_that_stay_0_do_not_move():
    network = Toy(second=(0, 0))
    changes = WeightChanges(network)
    moved(network, (0.0, 0.0), (0.0, 0.0), changes)
    assert changes.group_ratios()["decoder_output"] == 0


def test_step_that_was_not_announced_is_not_measured():
    network = Toy()
    changes = WeightChanges(network)
    moved(network, (1.0, 0.0), (0.0, 0.0), changes)
    found = changes.group_ratios()
    with torch.no_grad():
        network.first.weight.mul_(9)
    changes.after_update()
    assert changes.group_ratios() == found
