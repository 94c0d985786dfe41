from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.comparison_picture import GAP, LONGEST, comparison

COLOURS = ("#00ff00", "#ff0000", "#0000ff", "#ffff00")
GREEN, RED, BLUE, YELLOW, BLACK = (0, 255, 0), (255, 0, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0)


def panels(image, predicted, target):
    """Scan, mask and comparison, (H, W, 3) each."""
    picture = comparison(np.asarray(image, np.float32), np.asarray(predicted), np.asarray(target), COLOURS)
    width = (picture.shape[1] - 2 * GAP) // 3
    return [picture[:, start : start + width] for start in range(0, picture.shape[1], width + GAP)]


def test_hits_inventions_and_misses_have_their_colours():
    image = np.array([[[0.0, 0.2, 0.6, 1.0]]])
    scan, mask, found = panels(image, [[1, 1, 0, 0]], [[1, 0, 1, 0]])
    assert scan[0, :, 0].tolist() == [0, 51, 153, 255]
    assert mask[0, :, 2].tolist() == [255, 0, 255, 0]
    assert list(map(tuple, found[0].tolist())) == [GREEN, RED, BLUE, BLACK]


def test_a_wrong_class_has_a_colour_of_its_own_and_classes_are_shades():
    _, mask, found = panels(np.zeros((3, 1, 3)), [[1, 2, 2]], [[2, 2, 0]])
    assert mask[0, :, 0].tolist() == [255, 255, 0]
    assert list(map(tuple, found[0].tolist())) == [YELLOW, GREEN, RED]
    assert panels(np.zeros((3, 1, 3)), [[0, 0, 0]], [[1, 2, 4]])[1][0, :, 0].tolist() == [64, 128, 255]


def test_colours_of_the_scan_are_kept():
    image = np.stack([np.full((2, 2), share) for share in (1.0, 0.4, 0.0)])
    scan, _, _ = panels(image, np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert scan[0, 0].tolist() == [255, 102, 0]


@pytest.mark.parametrize(("shape", "shown"), [((1000, 500), (LONGEST, LONGEST // 2)), ((10, 2000), (2, LONGEST))])
def test_a_large_scan_is_fitted(shape, shown):
    nothing = np.zeros(shape, int)
    assert panels(np.zeros((1, *shape)), nothing, nothing)[0].shape == (*shown, 3)


def test_of_a_volume_the_slice_with_the_most_differences_is_shown():
    image, target, predicted = np.zeros((1, 3, 2, 2)), np.zeros((3, 2, 2), int), np.zeros((3, 2, 2), int)
    image[0, 2], target[2], predicted[0, 0, 0] = 1.0, 1, 1
    scan, mask, found = panels(image, predicted, target)
    assert scan.min() == mask.min() == 255
    assert tuple(found[0, 0]) == BLUE
