from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data import alignment
from octa_backend.data.alignment import CONTRAST_CELLS, FINE_GRID_SIDE, GRID_SIDE, LIGHTING_CELLS, Alignment
from octa_backend.data.details import evened_details


def align(image, inside) -> Alignment:
    """Of one scan."""
    return alignment.align(image[None], inside[None])[0]


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


@pytest.mark.parametrize("shape", [(1500, 16), (16, 1500), (16, 4000), (7, 7)])
def test_scans_with_a_side_of_few_cells_are_not_compared(shape):
    rng = np.random.default_rng(0)
    image, inside = rng.integers(0, 256, (2, *shape), np.uint8), rng.random((2, *shape)) > 0.5
    assert alignment.align(image, inside) == [alignment.UNALIGNED] * 2


def fine_blobs(moved=(0, 0), fineness=8, side=96):
    """Discs drawn eight times as fine, bool (side, side), moved by so many fine pixels."""
    rng = np.random.default_rng(3)
    rows, columns = np.indices((fineness * side, fineness * side))
    fine = np.zeros(rows.shape, bool)
    places = zip(*rng.uniform(0, fineness * side, (2, 40)), rng.uniform(1.5, 4, 40) * fineness, strict=True)
    for row, column, radius in places:
        fine |= (rows - row - moved[0]) ** 2 + (columns - column - moved[1]) ** 2 < radius**2
    return fine.reshape(side, fineness, side, fineness).mean(axis=(1, 3)) >= 0.5


@pytest.mark.parametrize("moved", [(0, 0), (0, 1), (0, -2), (3, 0), (-1, 2), (24, -8)])
def test_offsets_are_told_to_parts_of_a_pixel(moved):
    """Positive where the mask lies further down, or to the right. A parabola draws them towards whole pixels."""
    found = alignment.offset_of(picture(fine_blobs()), fine_blobs(moved))
    assert found == pytest.approx((moved[0] / 8, moved[1] / 8), abs=0.1)
    assert np.sign(np.round(found, 1)).tolist() == np.sign(moved).tolist()


def test_offsets_of_large_scans_are_told_in_their_own_pixels():
    inside = np.kron(fine_blobs(), np.ones((6, 6), bool))
    found = alignment.offset_of(picture(inside), np.roll(inside, (0, 4), (0, 1)))
    assert found == pytest.approx((0, 4), abs=0.6)


@pytest.mark.parametrize("shape", [(7, 300), (1500, 16), (4000, 9), (64, 64)])
def test_scans_without_structure_or_with_a_short_side_have_no_offset(shape):
    assert alignment.offset_of(np.full(shape, 9, np.uint8), np.zeros(shape, bool)) is None


@pytest.mark.parametrize("shape", [(1500, 16), (16, 4000), (7, 7)])
def test_offsets_along_a_side_of_few_cells_are_not_told(shape):
    rng = np.random.default_rng(0)
    assert alignment.offset_of(rng.integers(0, 256, shape, np.uint8), rng.random(shape) > 0.5) is None


def test_details_have_even_contrast_wherever_they_are():
    rows, columns = np.indices((64, 64))
    waves = np.sin(rows * np.pi / 2) * np.where(columns < 32, 1, 30)
    found = evened_details(waves, 5.0, 4.0)
    assert found[:, 8:24].std() == pytest.approx(found[:, 40:56].std(), rel=0.8)
    assert waves[:, 40:56].std() > 25 * waves[:, 8:24].std()
    assert not evened_details(np.full((3, 16, 16), 5.0), 2.0, 3.0).any()


def test_each_scan_of_a_stack_is_compared_with_its_own_mask():
    insides = [blobs(128, seed) for seed in range(3)]
    images = [picture(inside) for inside in insides]
    moved = [np.roll(inside, 4 * number, 0) for number, inside in enumerate(insides)]
    found = alignment.align(np.stack(images), np.stack(moved))
    assert [one.shift for one in found] == [(0, 0), (-4, 0), (-8, 0)]
    for one, image, inside in zip(found, images, moved, strict=True):
        alone = align(image, inside)
        assert one.shift == alone.shift
        assert (one.agreement, one.best) == pytest.approx((alone.agreement, alone.best), rel=1e-4)


@pytest.mark.parametrize(
    ("line", "at", "shift", "height"),
    [
        ([4, 3, 0, 0, 3], 0, 0, 4),
        ([0, 0, 2, 6, 6, 2, 0, 0], 3, 3.5, 6.5),
        ([0, 0, 0, -1, -5, -3], 4, -2 + 1 / 6, -5 - 1 / 12),
        ([6, 2, 0, 0, 6], 4, -0.5, 6.75),
        ([1, 1, 1, 1], 0, 0, 1),
    ],
)
def test_a_peak_between_two_cells_is_the_top_of_a_parabola(line, at, shift, height):
    found, rise = alignment._summit(np.array(line, float), at)
    assert (found, line[at] + rise) == pytest.approx((shift, height))


def test_only_what_would_lie_better_elsewhere_is_compared_on_the_finer_grid(monkeypatch):
    inside = blobs(FINE_GRID_SIDE, count=60)
    images = np.stack([picture(inside)] * 2)
    both = alignment.align(images, np.stack([inside, np.roll(inside, 7, 0)]))
    assert [one.shift for one in both] == [(0, 0), (-7, 0)]
    monkeypatch.setattr(alignment, "GRID_SIDE", FINE_GRID_SIDE)
    finely = alignment.align(images, np.stack([inside, np.roll(inside, 7, 0)]))
    assert (both[1].shift, both[1].best) == (finely[1].shift, pytest.approx(finely[1].best, rel=1e-4))
    assert both[0].agreement < 0.95 * finely[0].agreement


def test_a_shift_by_half_a_cell_is_seen_in_shift_and_agreement():
    inside = blobs(6 * GRID_SIDE, count=60)
    found = align(picture(inside), np.roll(inside, 3, 0))
    assert found.shift == (-3, 0)
    assert found.best > 1.01 * found.agreement


def test_means_of_squares_are_spread_linearly_between_their_middles():
    """Squares of 4 along 10 cells have their middles at 1.5, 5.5 and, the last being of 2 cells, 8.5."""
    steps = np.repeat([8.0, 0.0, 3.0], [4, 4, 2]).astype(np.float32)
    expected = [8, 8, 7, 5, 3, 1, 0.5, 1.5, 2.5, 3]
    for plane in (np.tile(steps, (7, 1)), np.tile(steps, (7, 1)).T):
        found = alignment._around(plane[None], 4)[0]
        assert np.allclose(found if found.shape == (7, 10) else found.T, expected)


@pytest.mark.parametrize("cells", [LIGHTING_CELLS, CONTRAST_CELLS])
def test_squares_smooth_like_a_gaussian_of_half_their_side(cells):
    """A point's squared distances after smoothing, on the average over where in its square it lies, are variance."""
    length, at = 15 * cells, np.arange(15 * cells)
    gather, spread = alignment._squares(length, cells)
    points = at[7 * cells : 8 * cells]
    smoothed = (spread @ gather)[:, points]
    assert np.allclose(smoothed.sum(axis=0), 1, atol=0.01)
    variance = np.mean([share @ (at - point) ** 2 for share, point in zip(smoothed.T, points, strict=True)])
    assert variance**0.5 == pytest.approx(cells / 2, rel=0.02)
