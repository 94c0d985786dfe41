from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.training.foreground import foreground_pixel, patch_start


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_pixel(*place, shape=(40, 60)):
    mask = np.zeros(shape, np.uint8)
    mask[place] = 1
    return mask


def starts(mask, patch, oversampling, count=300):
    random = generator()
    return [patch_start(mask, patch, oversampling, random) for _ in range(count)]


@pytest.mark.parametrize(
    ("place", "expected"), [((20, 30), (12, 22)), ((0, 0), (0, 0)), ((39, 59), (24, 44)), ((3, 58), (0, 44))]
)
def test_patch_is_centred_on_the_foreground_and_stays_inside(place, expected):
    assert set(starts(one_pixel(*place), (16, 16), 1.0, 20)) == {expected}


def test_volumes_are_cut_in_the_same_way():
    mask = one_pixel(10, 20, 30, shape=(20, 40, 60))
    assert set(starts(mask, (8, 16, 64), 1.0, 5)) == {(6, 12, 0)}


def test_without_oversampling_patches_lie_anywhere():
    found = np.array(starts(one_pixel(0, 0), (16, 16), 0.0))
    assert found.min(0).tolist() == [0, 0]
    assert found.max(0).tolist() == [40 - 16, 60 - 16]
    assert found.mean(0) == pytest.approx([12, 22], abs=2.5)


def test_oversampling_is_the_share_of_patches_around_the_foreground():
    found = starts(one_pixel(39, 59, shape=(400, 600)), (16, 16), 0.33, 1000)
    assert found.count((31, 51)) / 1000 == pytest.approx(0.33, abs=0.045)


def test_rare_classes_are_seen_as_often_as_frequent_ones():
    mask = np.zeros((50, 50), np.uint8)
    mask[:25], mask[40, 40], mask[45:, :5] = 1, 2, 7
    random = generator()
    found = [mask[foreground_pixel(mask, random)] for _ in range(900)]
    assert {int(index): found.count(index) / 900 for index in set(found)} == pytest.approx(
        {1: 1 / 3, 2: 1 / 3, 7: 1 / 3}, abs=0.05
    )


def test_every_pixel_of_a_class_is_as_likely_as_the_others():
    mask = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    random = generator()
    found = [foreground_pixel(mask, random) for _ in range(800)]
    assert {place: found.count(place) / 800 for place in set(found)} == pytest.approx(
        {(0, 1): 0.25, (0, 2): 0.25, (1, 0): 0.25, (1, 2): 0.25}, abs=0.05
    )


def test_scan_without_foreground_is_cut_anywhere():
    assert len(set(starts(np.zeros((40, 60), np.uint8), (16, 16), 1.0))) > 100


@pytest.mark.parametrize("patch", [(40, 60), (64, 64)])
def test_scan_that_fits_into_a_patch_needs_no_choice(patch):
    """So that the numbers drawn for whole scans do not depend on the oversampling."""
    with_it, without = generator(), generator()
    assert patch_start(one_pixel(3, 3), patch, 1.0, with_it) == (0, 0)
    assert patch_start(one_pixel(3, 3), patch, 0.0, without) == (0, 0)
    assert torch.equal(with_it.get_state(), without.get_state())
