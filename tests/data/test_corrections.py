from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from octa_backend.data.corrections import BLOCK_PIXELS, best_turn, binarize, fit, invert, map_colours
from octa_backend.data.scans import MaskPixels

RED, GREEN = (255, 0, 0), (0, 255, 0)
CLASSES = {"#000000": 0, "#ff0000": 1, "#00ff00": 2}


def coloured(*rows):
    rgb = np.array(rows, dtype=np.uint8)
    return MaskPixels(None, (), len(np.unique(rgb.reshape(-1, 3), axis=0)), rgb)


def plain(rows, dtype=np.uint8):
    return MaskPixels(np.array(rows, dtype=dtype))


# --- colours ------------------------------------------------------------------------------------------------------


def test_each_colour_of_the_map_becomes_its_value():
    mask, facts = map_colours(coloured([RED, GREEN], [(0, 0, 0), RED]), CLASSES)
    assert mask.values.tolist() == [[1, 2], [0, 1]]
    assert mask.values.dtype == np.uint8
    assert mask.rgb is None
    assert facts == {"colours_before": 3, "other_colours": 0, "nearest_pixels": 0}


def test_other_colours_take_the_value_of_the_nearest_and_are_counted():
    # (200, 40, 0): to red 55² + 40² = 4,625; to black 200² + 40² = 41,600; to green 200² + 215² = 86,225
    # (10, 100, 10): to black 10,200; to green 100 + 155² + 100 = 24,225
    mask, facts = map_colours(coloured([(200, 40, 0), (10, 100, 10)], [(10, 100, 10), GREEN]), CLASSES)
    assert mask.values.tolist() == [[1, 0], [0, 2]]
    assert facts == {"colours_before": 3, "other_colours": 2, "nearest_pixels": 3}


@pytest.mark.parametrize(
    "colours", [{"#000000": 7, "#020000": 9}, {"#020000": 9, "#000000": 7}], ids=["dark first", "bright first"]
)
def test_of_two_equally_near_colours_the_darker_one_counts_in_whatever_order_they_come(colours):
    mask, _ = map_colours(coloured([(1, 0, 0), (2, 0, 0)]), colours)
    assert mask.values.tolist() == [[7, 9]]


def test_values_above_255_make_a_16_bit_mask():
    mask, _ = map_colours(coloured([RED, (0, 0, 0)]), {"#000000": 0, "#FF0000": 300})
    assert mask.values.tolist() == [[300, 0]]
    assert mask.values.dtype == np.uint16


def test_a_mask_without_colours_is_mapped_by_the_greys_it_shows():
    mask, facts = map_colours(plain([[0, 255, 250]]), {"#000000": 0, "#ffffff": 3})
    assert mask.values.tolist() == [[0, 3, 3]]
    assert facts == {"colours_before": 3, "other_colours": 1, "nearest_pixels": 1}


def test_a_mask_that_the_map_leaves_as_it_is_is_not_changed():
    assert map_colours(plain([[0, 0]]), {"#000000": 0, "#ffffff": 3}) is None


def test_a_mask_larger_than_a_block_is_mapped_like_a_small_one():
    height, width = 350, 300
    assert height * width > BLOCK_PIXELS
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    palette = {"#000000": 0, "#ff0000": 1, "#00ff00": 2, "#204060": 3}
    table = np.array([(0, 0, 0), RED, GREEN, (0x20, 0x40, 0x60)], dtype=np.int64)
    distances = ((rgb[:, :, None].astype(np.int64) - table) ** 2).sum(axis=3)
    mask, facts = map_colours(MaskPixels(None, (), 1, rgb), palette)
    unequal = np.sort(distances, axis=2)[..., 0] < np.sort(distances, axis=2)[..., 1]
    assert np.array_equal(mask.values[unequal], distances.argmin(axis=2)[unequal])
    others = rgb[distances.min(axis=2) > 0]
    assert facts["nearest_pixels"] == len(others)
    assert facts["other_colours"] == len(np.unique(others, axis=0))


def test_a_large_mask_needs_little_more_memory_than_the_mask_it_becomes():
    rgb = np.zeros((2048, 2048, 3), dtype=np.uint8)
    rgb[:1024, :, 0] = 250
    tracemalloc.start()
    try:
        map_colours(MaskPixels(None, (), 2, rgb), {f"#{red:02x}0000": red for red in range(0, 256, 17)})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 4 MiB of mask, 16 MiB of colours that are not in the map, and some blocks of 2^16 numbers
    assert peak < 26 * 2**20


@pytest.mark.parametrize(
    ("colours", "complaint"),
    [
        ({}, "no colour"),
        ({"red": 1}, "'red' is no colour; colours are written as #rrggbb"),
        ({"#ff0000": -1}, r"the values \[-1\]; it gives each colour a value from 0 to 65,535"),
        ({"#ff0000": 70_000}, r"the values \[70000\]"),
    ],
)
def test_what_is_no_colour_map_is_refused(colours, complaint):
    with pytest.raises(ValueError, match=complaint):
        map_colours(coloured([RED]), colours)


def test_values_that_are_no_greys_are_not_looked_up():
    with pytest.raises(ValueError, match="its values go from 0 to 300; colours are looked up for 0 to 255"):
        map_colours(plain([[0, 300]], np.uint16), CLASSES)


# --- values -------------------------------------------------------------------------------------------------------


def test_values_above_the_threshold_become_255_and_others_0():
    mask, facts = binarize(plain([[0, 127, 128, 255], [0, 1, 254, 255]]), 127)
    assert mask.values.tolist() == [[0, 0, 255, 255], [0, 0, 255, 255]]
    assert mask.values.dtype == np.uint8
    assert facts == {"pixels": 4, "values_before": 6, "foreground_after": 0.5}


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_a_deep_mask_is_binarized_in_its_own_values(dtype):
    mask, facts = binarize(plain([[0, 1000, 40_000, 65_535]], dtype), 1000)
    assert mask.values.tolist() == [[0, 0, 255, 255]]
    assert facts == {"pixels": 3, "values_before": 4, "foreground_after": 0.5}


def test_a_mask_of_0_and_255_needs_no_binarizing():
    assert binarize(plain([[0, 255]]), 127) is None


def test_inverting_makes_0_to_255_and_everything_else_to_0():
    mask, facts = invert(plain([[0, 1], [7, 255]]))
    assert mask.values.tolist() == [[255, 0], [0, 0]]
    assert facts == {"foreground_before": 0.75, "foreground_after": 0.25}


@pytest.mark.parametrize("correct", [invert, lambda mask: binarize(mask, 127)])
def test_a_coloured_mask_has_no_values_to_change(correct):
    with pytest.raises(ValueError, match="it has 2 colours; map them to values first"):
        correct(coloured([RED, GREEN]))


# --- geometry -----------------------------------------------------------------------------------------------------


def test_a_mask_is_stretched_by_the_value_under_each_pixels_centre():
    mask, facts = fit(plain([[1, 2], [3, 4]]), (4, 3), "none")
    # columns: centres 1/3, 1, 5/3 of 2 -> 0, 1, 1; rows: 0, 0, 1, 1
    assert mask.values.tolist() == [[1, 2, 2], [1, 2, 2], [3, 4, 4], [3, 4, 4]]
    assert facts == {"size": "3×4", "size_before": "2×2", "turn": "none"}


def test_a_mask_is_shrunk_by_the_value_under_each_pixels_centre():
    mask, _ = fit(plain([[1, 2, 3, 4, 5, 6]] * 3), (1, 2), "none")
    assert mask.values.tolist() == [[2, 5]]  # centres 1.5 and 4.5 of 6


def test_a_coloured_mask_is_brought_to_size_in_colour():
    mask, _ = fit(coloured([RED, GREEN]), (2, 2), "none")
    assert mask.values is None
    assert mask.rgb.tolist() == [[list(RED), list(GREEN)]] * 2
    assert mask.colour_count == 2


@pytest.mark.parametrize(
    ("turn", "wanted"),
    [
        ("none", [[1, 2, 3], [4, 5, 6]]),
        ("transpose", [[1, 4], [2, 5], [3, 6]]),
        ("rotate_90", [[3, 6], [2, 5], [1, 4]]),
        ("rotate_270", [[4, 1], [5, 2], [6, 3]]),
    ],
)
def test_a_mask_is_turned_counterclockwise(turn, wanted):
    corrected = fit(plain([[1, 2, 3], [4, 5, 6]]), np.shape(wanted), turn)
    assert (corrected.mask.values.tolist() if corrected else [[1, 2, 3], [4, 5, 6]]) == wanted


def test_a_mask_of_the_right_size_stays_as_it_is():
    assert fit(plain([[1, 2]]), (1, 2), "none") is None


def test_an_unknown_turn_is_refused():
    with pytest.raises(ValueError, match="'upside_down' is no turn; there are none, transpose, rotate_90, rotate_270"):
        fit(plain([[1, 2]]), (1, 2), "upside_down")


UNDONE = {"transpose": np.transpose, "rotate_90": lambda x: np.rot90(x, -1), "rotate_270": lambda x: np.rot90(x, 1)}


@pytest.mark.parametrize("turn", list(UNDONE))
@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_turn_after_which_the_mask_lies_on_the_structure_is_found(turn, bright, scale):
    foreground = np.zeros((20, 30), dtype=bool)
    foreground[2:8, 3:12] = True
    image = np.where(foreground == bright, 200, 50).astype(np.uint8)
    image = np.stack([image, image // 2, image // 3])
    mask = UNDONE[turn](foreground).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    assert best_turn(MaskPixels(mask), image) == turn
    assert best_turn(MaskPixels(None, (), 2, mask[..., None] * np.array([255, 0, 9], np.uint8)), image) == turn


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_or_full_mask_is_transposed(value):
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 30), dtype=np.uint8)
    assert best_turn(plain(np.full((30, 20), value)), image) == "transpose"


def test_the_turn_of_a_large_mask_is_found_on_a_part_of_its_pixels():
    foreground = np.zeros((2200, 1100), dtype=bool)
    foreground[100:600, 50:300] = True
    image = np.where(foreground, 40_000, 500).astype(np.uint16)[None]
    assert best_turn(MaskPixels(np.rot90(foreground, 1).astype(np.uint8)), image) == "rotate_270"
