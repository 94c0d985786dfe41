from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from octa_backend.inference.measurement_picture import BRANCH_POINT, CENTRE_LINE, END_POINT, ZONE, measurement_picture
from octa_backend.inference.measurements import measure_vessels
from octa_backend.inference.scale import Scale
from tests.vessels import ellipse_ring


def cross_and_ring():
    mask = ellipse_ring(30, 30)
    mask[100:103, 134:190] = mask[10:40, 20] = mask[25, 8:35] = True
    return mask


def shows(picture, colour):
    return (picture == ImageColor.getrgb(colour)).all(axis=2)


@pytest.mark.parametrize("channels", [1, 3])
def test_lines_points_and_zone_are_drawn_where_they_were_found(channels):
    mask = cross_and_ring()
    measured = measure_vessels(mask, Scale())
    picture = measurement_picture(np.full((channels, 200, 200), 0.2, np.float32), measured)
    assert (picture.shape, picture.dtype) == ((1200, 1200, 3), np.uint8)
    large = np.repeat(np.repeat(mask, 6, axis=0), 6, axis=1)
    assert large[shows(picture, CENTRE_LINE)].mean() > 0.97
    for points, colour in ((measured.tree.branch_points, BRANCH_POINT), (measured.tree.end_points, END_POINT)):
        assert len(points)
        for row, column in points:
            assert shows(picture, colour)[int(6 * row + 3), int(6 * column + 3)]
    outline = np.argwhere(shows(picture, ZONE)) / 6 - 99.9
    np.testing.assert_allclose(np.hypot(*outline.T), 30, atol=1.2)


@pytest.mark.parametrize("fill", [False, True])
def test_a_mask_with_nothing_to_measure_is_drawn_without_lines(fill):
    measured = measure_vessels(np.full((40, 1300), fill), Scale())
    picture = measurement_picture(np.zeros((1, 40, 1300), np.float32), measured)
    assert picture.shape == (40, 1300, 3)
    assert not shows(picture, CENTRE_LINE).any()
