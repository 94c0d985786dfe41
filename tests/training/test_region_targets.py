"""Regions that are learned: which channels they become, what is refused, and the losses between them and a mask."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from octa_backend.errors import InvalidConfig
from octa_backend.training.comparison import compare
from octa_backend.training.config import TrainConfig
from octa_backend.training.ignored import IGNORED
from octa_backend.training.losses import compute_loss, make_loss
from octa_backend.training.region_targets import REGIONAL_LOSSES, region_targets
from octa_backend.training.volume_options import BRATS

VALUES = (0, 1, 2, 4)
TARGETS = region_targets(BRATS["brats"], VALUES)


def test_regions_become_channels_from_the_largest_on_and_each_adds_a_class():
    found = [(one.name, one.classes, one.adds) for one in TARGETS]
    assert found == [("WT", (1, 2, 3), 2), ("TC", (1, 3), 1), ("ET", (3,), 3)]
    turned = dict(reversed(BRATS["brats"].items()))
    assert region_targets(turned, VALUES) == TARGETS


def test_regions_beside_each_other_within_a_larger_one_are_told_apart():
    found = region_targets({"a": (1,), "both": (1, 2, 4), "b": (2,)}, VALUES)
    assert [(one.name, one.adds) for one in found] == [("both", 3), ("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("regions", "values", "words"),
    [
        ({"A": (1, 2), "B": (2, 4)}, VALUES, ("A and B overlap", "nest them")),
        ({"WT": (1, 2, 4), "ET": (4,)}, VALUES, ("WT adds the labels 1 and 2", "each but one of them")),
        ({"WT": (1, 2, 4), "all": (1, 2, 4), "TC": (1, 4), "ET": (4,)}, VALUES, ("WT adds no label", "leave it out")),
        ({"TC": (1, 4), "ET": (4,)}, VALUES, ("no region has the label 2", "TC, ET")),
        ({"WT": (1, 2, 3)}, VALUES, ("WT has the value 3", "1, 2, 4")),
        ({"WT": (1,)}, (0, 1), ("several classes",)),
    ],
)
def test_regions_that_labels_cannot_be_told_from_are_refused(regions, values, words):
    with pytest.raises(InvalidConfig) as caught:
        region_targets(regions, values)
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "needs regions"),
        ({"regions": "brats", "loss": "dice_ce"}, "loss=dice_ce compares classes"),
        ({"regions": "brats", "loss": "focal"}, "take auto or one of dice_bce"),
    ],
)
def test_a_config_that_cannot_learn_regions_is_refused(options, word):
    with pytest.raises(ValidationError, match=word):
        TrainConfig(target="regions", **options)


def a_loss(name, **options):
    config = TrainConfig(target="regions", regions="brats", loss=name, pos_weight=None, **options)
    return make_loss(config, TARGETS)


MASK = torch.tensor([[[0, 2], [1, 3]]])
IN_REGIONS = torch.tensor([[[[0, 1], [1, 1]], [[0, 0], [1, 1]], [[0, 0], [0, 1]]]]).float()


def test_a_mask_is_in_every_region_that_has_its_class():
    assert torch.equal(compare(torch.zeros(1, 3, 2, 2), MASK, regions=a_loss("dice").regions).foreground, IN_REGIONS)


def test_dice_and_cross_entropy_are_means_over_regions():
    found = compute_loss(a_loss("dice_bce"), torch.zeros(1, 3, 2, 2), MASK)
    assert found.components["bce"].item() == pytest.approx(math.log(2))
    # p = 1/2 everywhere: (2·p·n + 1) / (4·p + n + 1) for regions of n = 3, 2 and 1 pixels.
    dice = (4 / 6 + 3 / 5 + 2 / 4) / 3
    assert found.components["dice"].item() == pytest.approx(1 - dice)
    assert found.total.item() == pytest.approx(0.5 * math.log(2) + 0.5 * (1 - dice))


def test_pixels_that_do_not_count_are_in_no_region():
    logits = torch.tensor([1.0, -2.0, 0.5]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    mask = MASK.clone()
    mask[0, 1] = IGNORED
    loss = a_loss("dice_bce", ignore_index=3)
    found = compute_loss(loss, logits, mask)
    loss.ignores = False
    wanted = compute_loss(loss, logits[:, :, :1], MASK[:, :1])
    for name, value in wanted.components.items():
        assert found.components[name].item() == pytest.approx(value.item())


@pytest.mark.parametrize("name", REGIONAL_LOSSES)
@pytest.mark.parametrize("spatial", [(8, 8), (6, 8, 8)])
def test_every_loss_of_regions_is_small_for_the_right_answer_and_learns(name, spatial):
    mask = torch.zeros(1, *spatial, dtype=torch.long)
    mask[..., 2:7, 2:7], mask[..., 3:6, 3:6], mask[..., 4:5, 4:5] = 2, 1, 3
    loss = a_loss(name)
    right = 2 * compare(torch.zeros(1, 3, *spatial), mask, regions=loss.regions).foreground - 1
    logits = (10 * right).requires_grad_()
    assert compute_loss(loss, logits, mask).total.item() < compute_loss(loss, -logits, mask).total.item()
    torch.autograd.backward(compute_loss(loss, logits * 0.01, mask).total)
    assert logits.grad is not None
    assert all(logits.grad[:, channel].abs().sum() > 0 for channel in range(3))


def test_logits_of_another_number_of_regions_are_a_bug():
    with pytest.raises(ValueError, match="3 regions"):
        compute_loss(a_loss("dice"), torch.zeros(1, 4, 2, 2), MASK)
