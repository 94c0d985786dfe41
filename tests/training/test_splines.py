from __future__ import annotations

import pytest
import torch

from octa_backend.training.splines import control_shape, smooth_field


@pytest.mark.parametrize("spatial", [(7,), (33, 20), (5, 12, 9)])
def test_equal_control_points_give_a_constant_field(spatial):
    points = torch.full((2, *control_shape(spatial, 4.0)), 0.3)
    field = smooth_field(points, spatial, 4.0)
    torch.testing.assert_close(field, torch.full((2, *spatial), 0.3))


def test_control_points_on_a_line_give_that_line():
    # point k lies at (k - 1) * 5 pixels, the centre of pixel i at i + 1/2
    (count,) = control_shape((23,), 5.0)
    field = smooth_field((torch.arange(count)[None] - 1) * 5.0, (23,), 5.0)
    torch.testing.assert_close(field[0], torch.arange(23) + 0.5)


def test_one_control_point_spreads_as_a_cubic_spline():
    points = torch.zeros(1, *control_shape((8,), 1.0))
    points[0, 4] = 1.0  # at 3 pixels
    # pixel centres are 1/2 and 3/2 away: 2/3 - 1/4 + 1/16 = 23/48 and (1/2)³ / 6 = 1/48
    expected = torch.tensor([0, 1, 23, 23, 1, 0, 0, 0]) / 48
    torch.testing.assert_close(smooth_field(points, (8,), 1.0)[0], torch.tensor([0, *expected[1:]]))


def test_field_stays_between_its_control_points():
    points = 2 * torch.rand(4, *control_shape((30, 17), 3.0)) - 1
    assert smooth_field(points, (30, 17), 3.0).abs().max() <= 1


def test_control_points_reach_beyond_both_ends():
    assert control_shape((8, 9), 4.0) == (5, 6)
