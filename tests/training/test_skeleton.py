from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from octa_backend.training.skeleton import cldice, skeletonize
from tests.drawn import as_text, drawn


def test_a_bar_is_thinned_to_its_middle_by_hand():
    # worked through by hand: the first half removes the right, the lower and both left corners, and so on
    bar = drawn("#####", "#####", "#####")
    assert as_text(skeletonize(bar)) == [".....", ".##..", "....."]


@pytest.mark.parametrize(
    "line",
    [
        drawn("#####"),
        drawn("#", "#", "#"),
        drawn("#....", ".#...", "..#..", "...#."),
        drawn("..#..", "..#..", "##.##", "..#..", "..#.."),
    ],
    ids=["row", "column", "diagonal", "crossing"],
)
def test_a_line_of_one_pixel_stays_as_it_is(line):
    assert (skeletonize(line) == line).all()


def test_an_empty_mask_has_no_skeleton():
    assert not skeletonize(drawn("...", "...")).any()


def test_a_square_of_two_keeps_one_pixel_though_the_thinning_removes_it():
    assert as_text(skeletonize(drawn("....", ".##.", ".##.", "...."))) == ["....", ".#..", "....", "...."]


def test_each_part_keeps_a_pixel_and_a_part_touching_at_a_corner_is_no_part_of_its_own():
    mask = drawn("##...##", "##...##", ".......", "#......", ".#.....")
    assert as_text(skeletonize(mask)) == ["#....#.", ".......", ".......", "#......", ".#....."]


def test_the_mask_is_not_changed():
    mask = drawn("###", "###", "###")
    skeletonize(mask)
    assert mask.all()


def circle(size, radius, middle):
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - middle[0], x - middle[1]) <= radius


def test_a_ring_stays_one_ring_of_single_pixels():
    ring = circle(40, 16, (20, 20)) & ~circle(40, 9, (20, 20))
    skeleton = skeletonize(ring)
    assert (skeleton <= ring).all()
    assert label(skeleton, np.ones((3, 3)))[1] == 1
    assert label(~skeleton)[1] == 2  # inside and outside
    away = np.hypot(*(np.argwhere(skeleton) - 20).T)
    assert (abs(away - 12.5) < 1.6).all()
    assert not any((skeleton[y : y + 2, x : x + 2]).all() for y in range(39) for x in range(39))


def plain_thinning(mask):
    """Zhang and Suen's two halves, pixel by pixel."""
    image = np.pad(mask, 1).astype(int)
    changed = True
    while changed:
        changed = False
        for half in (0, 1):
            gone = []
            for y, x in np.argwhere(image):
                p = [
                    image[y + dy, x + dx]
                    for dy, dx in [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
                ]
                rises = sum(p[i] == 0 and p[(i + 1) % 8] == 1 for i in range(8))
                first, second = (p[0] * p[2] * p[4], p[2] * p[4] * p[6])
                if half:
                    first, second = (p[0] * p[2] * p[6], p[0] * p[4] * p[6])
                if 2 <= sum(p) <= 6 and rises == 1 and first == 0 and second == 0:
                    gone.append((y, x))
            for place in gone:
                image[place] = 0
            changed |= bool(gone)
    return image[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize("seed", range(6))
def test_the_thinning_is_the_papers(seed):
    generator = np.random.default_rng(seed)
    mask = np.zeros((24, 24), dtype=bool)
    for _ in range(5):
        mask |= circle(24, generator.uniform(2.5, 6), generator.uniform(2, 22, 2))
    plain = plain_thinning(mask)
    ours = skeletonize(mask)
    assert (plain <= ours).all()
    if len(set(label(mask, np.ones((3, 3)))[0][plain])) == label(mask, np.ones((3, 3)))[1]:
        assert (plain == ours).all()


def test_volumes_are_refused():
    with pytest.raises(ValueError, match="two axes only"):
        skeletonize(np.ones((2, 3, 4), dtype=bool))
    with pytest.raises(ValueError, match="two axes only"):
        cldice(np.ones((2, 3, 4), dtype=bool), np.ones((2, 3, 4), dtype=bool))


def test_cldice_by_hand():
    # all of the marked line is found, 3 of 5 pixels of the found line are marked
    assert cldice(drawn("#####"), drawn("###..")) == pytest.approx(2 * (3 / 5) * 1 / (3 / 5 + 1))


def test_the_centre_line_of_a_thick_vessel_is_enough_for_cldice():
    line, bar = drawn(".....", "#####", "....."), drawn("#####", "#####", "#####")
    assert cldice(line, bar) == 1
    assert cldice(bar, line) == 1


def test_a_gap_costs_clDice_what_it_takes_from_the_line():  # noqa: N802
    assert cldice(drawn("##.##"), drawn("#####")) == pytest.approx(2 * 1 * 0.8 / 1.8)


def test_cldice_of_empty_masks():
    empty, line = drawn("....."), drawn("#####")
    assert cldice(empty, empty) == 1.0
    assert cldice(empty, line) == cldice(line, empty) == 0.0


def test_masks_that_do_not_touch_have_a_cldice_of_0():
    assert cldice(drawn("##..."), drawn("...##")) == 0.0


def test_cldice_refuses_masks_of_different_shape():
    with pytest.raises(ValueError, match=r"the prediction is \(1, 5\) but the mask is \(1, 4\)"):
        cldice(drawn("#####"), drawn("####"))
