from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data.alignment import GRID_SIDE, align
from octa_backend.data.details import evened_details


def blobs(side, seed=0, count=30):
    """Discs at random places, bool (side, side)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    inside = np.zeros((side, side), bool)
    for row, column, radius in zip(*rng.uniform(0, side, (2, count)), rng.uniform(2, 5, count), strict=True):
        inside |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return inside


def picture(inside, seed=1):
    """The discs, bright in noise."""
    noise = np.random.default_rng(seed).normal(0, 20, inside.shape)
    return np.clip(60 + 100 * inside + noise, 0, 255).astype(np.uint8)


def test_a_mask_that_lies_right_agrees_best_where_it_is():
    inside = blobs(128)
    found = align(picture(inside), inside)
    assert found.shift == (0, 0)
    assert found.agreement == found.best > 10


@pytest.mark.parametrize("moved", [(3, 0), (-9, 4), (0, 15)])
def test_the_shift_says_how_the_mask_should_move(moved):
    inside = blobs(128)
    found = align(picture(inside), np.roll(inside, moved, (0, 1)))
    assert found.shift == (-moved[0], -moved[1])


def test_large_images_are_compared_on_a_coarser_grid_and_told_in_pixels():
    inside = blobs(4 * GRID_SIDE, count=200)
    found = align(picture(inside), np.roll(inside, (22, -9), (0, 1)))
    assert found.shift == pytest.approx((-22, 9), abs=1)


def test_dark_structures_agree_like_bright_ones():
    inside = blobs(128)
    assert align(255 - picture(inside), inside).agreement == pytest.approx(align(picture(inside), inside).agreement)


def test_a_strong_border_does_not_outweigh_what_is_inside():
    inside = blobs(128)
    image = picture(inside) // 4
    image[:, 100:] = 255
    assert align(image, inside).agreement > 7
    assert align(image, inside).shift == (0, 0)


@pytest.mark.parametrize("shape", [(128, 128), (17, 16), (60, 301)])
def test_without_structure_there_is_no_agreement(shape):
    constant, half = np.full(shape, 9, np.uint8), np.zeros(shape, bool)
    half[: shape[0] // 2] = True
    assert align(constant, half) == (0, 0, (0, 0))


def test_details_have_even_contrast_wherever_they_are():
    rows, columns = np.indices((64, 64))
    waves = np.sin(rows * np.pi / 2) * np.where(columns < 32, 1, 30)
    found = evened_details(waves, 5.0, 4.0)
    assert found[:, 8:24].std() == pytest.approx(found[:, 40:56].std(), rel=0.8)
    assert waves[:, 40:56].std() > 25 * waves[:, 8:24].std()
    assert not evened_details(np.full((3, 16, 16), 5.0), 2.0, 3.0).any()
