from __future__ import annotations

import math

import pytest
import torch

from octa_backend.training.augmentation_options import NONE
from octa_backend.training.intensity import (
    add_noise,
    blur,
    change_brightness_and_contrast,
    change_gamma,
    gaussian_blur,
)

SHAPES = [(3, 2, 9, 11), (3, 2, 5, 9, 11)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def only(**numbers):
    return NONE.model_copy(update=numbers)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", [add_noise, blur, change_brightness_and_contrast, change_gamma])
def test_scans_that_are_not_chosen_stay_as_they_are(shape, change):
    image = torch.rand(shape)
    torch.testing.assert_close(change(image, NONE, generator()), image)


def test_gamma_is_a_power_by_hand():
    image = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 1, 4)
    found = change_gamma(image, only(gamma_probability=1.0, gamma_min=2.0, gamma_max=2.0), generator())
    assert found.flatten().tolist() == pytest.approx([0, 0.0625, 0.25, 1])


def test_contrast_spreads_around_the_scans_own_mean_by_hand():
    image = torch.tensor([[0.2, 0.4], [0.7, 0.9]]).view(2, 1, 1, 2)
    options = only(contrast_probability=1.0, contrast_min=2.0, contrast_max=2.0)
    found = change_brightness_and_contrast(image, options, generator())
    assert found.flatten().tolist() == pytest.approx([0.1, 0.5, 0.6, 1.0])


def test_brightness_adds_one_value_per_scan_and_is_cut_off():
    image = torch.tensor([0.5, 0.6, 1.0]).view(1, 1, 1, 3).expand(200, -1, -1, -1)
    found = change_brightness_and_contrast(image, only(brightness_probability=1.0), generator())
    shift = found[:, 0, 0, 0] - 0.5
    torch.testing.assert_close(found[:, 0, 0, 1] - 0.6, shift)
    assert -0.1 <= shift.min() < -0.08
    assert 0.08 < shift.max() <= 0.1
    assert found.max() <= 1


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 3, 8, 24, 24)])
def test_noise_has_a_deviation_up_to_the_largest_and_differs_between_channels(shape):
    found = add_noise(torch.full(shape, 0.5), only(noise_probability=1.0, noise_max=0.05), generator()) - 0.5
    deviation = found.std((2, 3))
    assert (deviation > 0.001).all()
    assert (deviation < 0.053).all()
    assert not torch.equal(found[:, 0], found[:, 1])
    assert found.mean((2, 3)).abs().max() < 0.05


def test_noise_stays_in_0_to_1():
    found = add_noise(torch.ones(2, 1, 16, 16), only(noise_probability=1.0, noise_max=1.0), generator())
    assert found.max() <= 1
    assert found.min() >= 0


@pytest.mark.parametrize("shape", [(1, 1, 21, 21), (1, 1, 21, 21, 21)])
def test_blurred_point_is_a_gaussian_and_keeps_its_sum(shape):
    image = torch.zeros(shape)
    image[(0, 0, *[10] * (len(shape) - 2))] = 1
    found = gaussian_blur(image, torch.tensor([1.5]))
    line = found[(0, 0, *[10] * (len(shape) - 3))]
    assert float(found.sum()) == pytest.approx(1)
    assert float(line[11] / line[10]) == pytest.approx(math.exp(-1 / (2 * 1.5**2)))
    assert float(line[13] / line[10]) == pytest.approx(math.exp(-9 / (2 * 1.5**2)))
    torch.testing.assert_close(found, found.transpose(-1, -2))


def test_each_scan_has_its_own_blur():
    image = torch.rand(1, 1, 16, 16).repeat(2, 1, 1, 1)
    both = gaussian_blur(image, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(both[:1], gaussian_blur(image[:1], torch.tensor([0.5])))
    torch.testing.assert_close(both[1:], gaussian_blur(image[1:], torch.tensor([2.0])))


def test_blur_leaves_a_constant_scan_constant_up_to_its_edge():
    torch.testing.assert_close(
        gaussian_blur(torch.full((1, 1, 4, 5), 0.7), torch.tensor([3.0])), torch.full((1, 1, 4, 5), 0.7)
    )
