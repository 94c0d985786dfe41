from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.measurement import NotMeasurable
from octa_backend.inference.vessel_skeleton import pixel_graph
from octa_backend.inference.vessel_tree import grow_tree
from tests.drawn import drawn
from tests.vessels import bar, ellipse_ring, exact_bar


@pytest.mark.parametrize("width", range(1, 12))
def test_a_bar_along_the_rows_has_its_exact_median_calibre(width):
    tree = grow_tree(exact_bar(width))
    assert np.median(tree.calibres) == width
    assert tree.calibres.mean() == pytest.approx(width, abs=0.05)
    shortened = 140 / (140 - width)  # half a width of the centre line is missing at each end
    assert tree.global_calibre() == pytest.approx(width * shortened, rel=0.03)


@pytest.mark.parametrize("degrees", [0, 7, 10, 22.5, 30, 45, 60, 73])
@pytest.mark.parametrize("width", [3, 4, 5, 6.5, 9])
def test_the_calibre_of_a_tilted_bar_is_right_to_two_thirds_of_a_pixel_and_its_length_to_its_width(width, degrees):
    tree = grow_tree(bar(width, degrees=degrees))
    assert np.median(tree.calibres) == pytest.approx(width, abs=0.65)
    assert tree.calibres.mean() == pytest.approx(width, abs=0.65 if width < 9 else 0.8)  # wide ends have corners
    assert 140 - width - 1 <= tree.length <= 142
    assert (len(tree.segments), len(tree.branch_points), len(tree.end_points)) == (1, 0, 2)


@pytest.mark.parametrize("radius", [20, 30, 60])
def test_a_ring_is_one_closed_segment_as_long_as_its_middle_line(radius):
    tree = grow_tree(ellipse_ring(radius, radius))
    assert tree.length == pytest.approx(2 * np.pi * (radius + 2), rel=0.01)
    assert (len(tree.segments), len(tree.branch_points), len(tree.end_points)) == (1, 0, 0)
    assert tree.segments.chords.tolist() == [0.0]


def test_a_fork_has_one_branch_point_and_three_ends():
    mask = np.zeros((60, 60), bool)
    mask[30, 10:50] = mask[31:50, 30] = True
    tree = grow_tree(mask)
    assert tree.branch_points.tolist() == [[30.0, 30.0]]
    assert sorted(map(tuple, tree.end_points.tolist())) == [(30, 10), (30, 49), (49, 30)]
    assert sorted(tree.segments.lengths.tolist()) == [19.0, 19.0, 20.0]
    assert tree.length == 58.0


def test_a_vessel_that_leaves_the_picture_does_not_end_there():
    mask = np.zeros((60, 60), bool)
    mask[20:23, :] = True
    mask[40:43, 30:] = True
    tree = grow_tree(mask)
    assert [row for row, _ in tree.end_points.tolist()] == [41]


def test_the_bumps_of_an_outline_grow_no_twigs():
    mask = np.zeros((60, 200), bool)
    mask[20:31, 20:180] = True
    mask[18:20, 40:180:16] = True
    tree = grow_tree(mask)
    assert (len(tree.segments), len(tree.branch_points)) == (1, 0)


def test_the_corner_of_a_staircase_is_no_branch():
    graph = pixel_graph(drawn("##..", ".##.", "..##"))
    assert graph.degrees.tolist() == [1, 2, 2, 2, 2, 1]
    assert len(graph.branch_points) == 0


def test_a_crossing_of_lines_is_one_branch_point():
    assert pixel_graph(drawn("#...#", ".#.#.", "..#..", ".#.#.", "#...#")).branch_points.tolist() == [[2.0, 2.0]]


def test_a_single_pixel_has_a_calibre_but_no_length():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    tree = grow_tree(mask)
    assert (tree.length, tree.calibres.tolist()) == (0.0, [1.0])
    with pytest.raises(NotMeasurable, match="no_centre_line"):
        tree.global_calibre()


@pytest.mark.parametrize(("fill", "reason"), [(False, "no_vessel"), (True, "no_background")])
def test_without_vessel_or_without_background_there_is_no_tree(fill, reason):
    with pytest.raises(NotMeasurable, match=reason):
        grow_tree(np.full((20, 20), fill))
