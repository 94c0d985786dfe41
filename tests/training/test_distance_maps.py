from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from octa_backend.training import distance_maps
from octa_backend.training.distance_maps import border_map, distance_to, signed_distance


def on_cpu(mask):
    return distance_to(mask)


def by_axes(mask):
    return distance_maps._distances_by_axes(mask)


WAYS = pytest.mark.parametrize("way", [on_cpu, by_axes])


@WAYS
def test_distances_by_hand(way):
    mask = torch.tensor([[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 1]]], dtype=torch.bool)
    root2, root5 = math.sqrt(2), math.sqrt(5)
    expected = torch.tensor([[[0, 1, 2], [1, root2, root5]], [[root2, 1, 1], [1, 0, 0]]])
    found = way(mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@WAYS
def test_distances_in_a_volume_by_hand(way):
    mask = torch.zeros(1, 3, 4, 5, dtype=torch.bool)
    mask[0, 0, 0, 0] = True
    assert way(mask)[0, 2, 3, 4].item() == pytest.approx(math.sqrt(4 + 9 + 16))


@WAYS
def test_empty_mask_is_infinitely_far(way):
    found = way(torch.tensor([[[0, 0]], [[1, 0]]], dtype=torch.bool))
    assert found.tolist() == [[[math.inf, math.inf]], [[0.0, 1.0]]]


@pytest.mark.parametrize("shape", [(3, 17, 23), (2, 6, 7, 9)])
def test_both_ways_give_the_same_distances(shape, monkeypatch):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.97
    torch.testing.assert_close(by_axes(mask), on_cpu(mask))
    monkeypatch.setattr(distance_maps, "BLOCK", 1)  # a line at a time
    torch.testing.assert_close(by_axes(mask), on_cpu(mask))


def test_signed_distance_is_negative_inside_and_half_a_pixel_at_the_boundary():
    mask = torch.tensor([[[0, 0, 1, 1, 1, 0]]], dtype=torch.bool)
    assert signed_distance(mask).tolist() == [[[1.5, 0.5, -0.5, -1.5, -0.5, 0.5]]]


@pytest.mark.parametrize("value", [False, True])
def test_mask_without_boundary_has_no_signed_distance(value):
    assert signed_distance(torch.full((1, 2, 3), value)).abs().sum() == 0


# --- gaps between objects -------------------------------------------------------------------------------------------


def test_gap_between_two_objects_by_hand():
    # d1 + d2 is 1 + 3, 2 + 2, 3 + 1 between them and 1 + 6 beyond
    found = border_map(torch.tensor([[[1, 0, 0, 0, 1, 1, 0]]]), sigma=2)
    gap = math.exp(-16 / 8)
    assert found.tolist() == [[[0, *[pytest.approx(gap)] * 3, 0, 0, pytest.approx(math.exp(-(7**2) / 8))]]]


def test_pixels_that_touch_at_a_corner_are_one_object():
    assert border_map(torch.tensor([[[1, 0, 0], [0, 1, 0]]]), sigma=5).sum() == 0
    assert border_map(torch.tensor([[[1, 0, 0], [0, 0, 1]]]), sigma=5).sum() > 0


def test_classes_that_touch_are_two_objects():
    found = border_map(torch.tensor([[[2, 1, 0]]]), sigma=3)
    assert found.tolist() == [[[0, 0, pytest.approx(math.exp(-(3**2) / 18))]]]


def test_neighbours_are_found_whatever_their_numbers():
    # objects 1 and 5 lie above each other, 2 to 4 far to the right; 0 and 4 differ in their highest bit alone
    mask = torch.zeros(1, 3, 40, dtype=torch.int64)
    mask[0, 0, [0, 30, 34, 38]] = mask[0, 2, 0] = 1
    assert border_map(mask, sigma=2)[0, 1, 0].item() == pytest.approx(math.exp(-((1 + 1) ** 2) / 8))


@pytest.mark.parametrize("mask", [[[0, 0, 0]], [[0, 1, 1]], [[1, 1, 1]]])
def test_fewer_than_two_objects_have_no_gap(mask):
    assert border_map(torch.tensor([mask]), sigma=5).abs().sum() == 0


def test_each_scan_has_its_own_objects():
    alone, pair = [[1, 0, 0]], [[1, 0, 1]]
    found = border_map(torch.tensor([alone, pair]), sigma=5)
    assert found[0].sum() == 0
    assert found[1].sum() > 0


@pytest.mark.parametrize(("shape", "share"), [((40, 30), 0.01), ((40, 30), 0.08), ((9, 10, 11), 0.02)])
def test_gaps_between_many_objects_are_those_of_one_map_per_object(shape, share):
    mask = (np.random.default_rng(3).random(shape) < share).astype(np.int64)
    numbers, count = distance_maps._objects(mask)
    assert count > 4
    each = torch.stack([distance_to(torch.from_numpy(numbers == i + 1)[None])[0] for i in range(count)])
    first, second = each.sort(0).values[:2]
    expected = torch.exp(-(first + second).square() / (2 * 4**2)) * torch.from_numpy(mask == 0)
    torch.testing.assert_close(border_map(torch.from_numpy(mask)[None], sigma=4)[0], expected)
