from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from octa_backend.training.augmentation_options import NONE
from octa_backend.training.spatial import random_affine, random_deformation, sampling_grid
from tests.training.augmented import augment

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def only(**numbers):
    return NONE.model_copy(update=numbers)


def moved(image, options, seed=0):
    mask = torch.zeros(image.shape[0], *image.shape[2:], dtype=torch.int64)
    return augment(image, mask, generator(seed), options)[0]


def affine(spatial, options, count=64):
    return random_affine(count, spatial, options, generator())


def identity(axes, count=1):
    return torch.cat([torch.eye(axes), torch.zeros(axes, 1)], dim=1).expand(count, -1, -1)


# --- affine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(8, 8), (8, 12), (4, 6, 8)])
def test_without_probabilities_everything_stays_where_it_is(spatial):
    torch.testing.assert_close(affine(spatial, NONE), identity(len(spatial), 64))


@pytest.mark.parametrize(
    ("name", "axis", "spatial"),
    [
        ("flip_x_probability", -1, (6, 10)),
        ("flip_y_probability", -2, (6, 10)),
        ("flip_x_probability", -1, (4, 6, 10)),
        ("flip_y_probability", -2, (4, 6, 10)),
        ("flip_z_probability", -3, (4, 6, 10)),
    ],
)
def test_flip_mirrors_its_axis(name, axis, spatial):
    image = torch.rand(2, 1, *spatial)
    torch.testing.assert_close(moved(image, only(**{name: 1.0})), image.flip(axis), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("spatial", "turns"), [((8, 8), (0, 1, 2, 3)), ((6, 8), (0, 2)), ((5, 8, 8), (0, 1, 2, 3)), ((8, 6, 8), (0, 2))]
)
def test_turn_is_by_right_angles_within_the_last_two_axes_and_all_come_equally_often(spatial, turns):
    image = torch.rand(1, 1, *spatial).repeat(400, 1, *[1] * len(spatial))
    found = moved(image, only(turn_probability=1.0))
    for turn in turns:
        expected = image[0].rot90(turn, (-2, -1))
        share = ((found - expected).abs().flatten(1).amax(1) < 1e-4).float().mean()
        assert share == pytest.approx(1 / len(turns), abs=0.08)


@pytest.mark.parametrize("spatial", [(10, 10), (10, 10, 10)])
def test_rotation_is_by_any_angle_up_to_the_largest_to_both_sides(spatial):
    found = affine(spatial, only(rotation_probability=1.0, rotation_degrees=20.0), count=500)
    degrees = torch.atan2(found[:, 1, 0], found[:, 0, 0]) * 180 / math.pi
    assert -20 <= degrees.min() < -18
    assert 18 < degrees.max() <= 20
    torch.testing.assert_close(found[:, :2, :2].det(), torch.ones(500))
    if len(spatial) == 3:
        torch.testing.assert_close(found[:, 2, :3], torch.tensor([0.0, 0, 1]).expand(500, 3))


@pytest.mark.parametrize("spatial", [(10, 14), (6, 10, 14)])
def test_scale_magnifies_all_axes_alike(spatial):
    found = affine(spatial, only(scale_probability=1.0, scale_min=0.5, scale_max=2.0), count=500)
    factors = 1 / found[:, 0, 0]  # a magnified scan shows a smaller part
    assert 0.5 <= factors.min() < 0.55
    assert 1.9 < factors.max() <= 2
    expected = torch.eye(len(spatial)) / factors[:, None, None]
    torch.testing.assert_close(found[:, :, :-1], expected)


def test_translation_is_a_share_of_each_side():
    found = affine((10, 30), only(translation_probability=1.0, translation_fraction=0.1), count=500)
    ways = found[:, :, 2] / 2  # scans are 2 long
    assert ((ways.abs() <= 0.1) & (ways != 0)).all()
    assert (ways.amax(0) > 0.095).all()
    assert (ways.amin(0) < -0.095).all()
    torch.testing.assert_close(found[:, :, :2], torch.eye(2).expand(500, 2, 2))


# --- deformation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(40, 60), (12, 16, 20)])
def test_deformation_stays_within_its_shift_and_is_smooth(spatial):
    options = only(elastic_probability=1.0, elastic_spacing=10.0, elastic_shift=3.0)
    shifts = random_deformation(3, spatial, options, generator(), CPU)
    assert shifts.shape == (3, *spatial, len(spatial))
    assert 0.5 < shifts.abs().max() <= 3
    for axis in range(1, shifts.ndim - 1):
        assert shifts.diff(dim=axis).abs().max() < 1  # the largest slope of a spline: 2 · 3 px over 10 px


def test_deformation_at_its_limit_folds_nothing():
    options = only(elastic_probability=1.0, elastic_spacing=8.0, elastic_shift=3.2)
    shifts = random_deformation(20, (48, 48), options, generator(), CPU)
    along_x, along_y = shifts.diff(dim=2)[:, :-1], shifts.diff(dim=1)[:, :, :-1]
    area = (1 + along_x[..., 0]) * (1 + along_y[..., 1]) - along_x[..., 1] * along_y[..., 0]
    assert area.min() > 0


def test_only_the_chosen_scans_are_deformed():
    options = only(elastic_probability=0.5)
    shifts = random_deformation(40, (16, 16), options, generator(), CPU)
    changed = (shifts != 0).flatten(1).any(1).sum()
    assert 10 < changed < 30
    assert random_deformation(40, (16, 16), NONE, generator(), CPU) is None


# --- the grid -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(6, 9), (4, 6, 9)])
def test_shift_by_whole_pixels_shows_what_lies_so_far_away(spatial):
    image = torch.rand(1, 1, *spatial)
    shifts = torch.zeros(1, *spatial, len(spatial))
    shifts[..., 0], shifts[..., 1] = 2, -1  # 2 along x, -1 along y
    grid = sampling_grid(identity(len(spatial)), spatial, shifts)
    found = F.grid_sample(image, grid, align_corners=False)
    torch.testing.assert_close(found[..., 1:, :-2], image[..., :-1, 2:], atol=1e-5, rtol=0)


def test_shifts_are_those_of_the_augmented_scan():
    image = torch.rand(1, 1, 7, 7)
    turned = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])
    shifts = torch.zeros(1, 7, 7, 2)
    shifts[..., 0] = 1
    without, with_shifts = (
        F.grid_sample(image, sampling_grid(turned, (7, 7), s), align_corners=False) for s in (None, shifts)
    )
    torch.testing.assert_close(with_shifts[..., :-1], without[..., 1:], atol=1e-5, rtol=0)
