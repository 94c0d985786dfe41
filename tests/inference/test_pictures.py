from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.class_table import ClassLabel
from octa_backend.inference.comparison_picture import comparison
from octa_backend.inference.pictures import COLOURS, contact_sheet, mask_picture, overlay, overview, png, sheet_row

GREY = np.full((1, 4, 6), 0.4, np.float32)  # 102 of 255


def striped(*rows, height=4, width=6):
    """A mask whose first rows have these classes."""
    mask = np.zeros((height, width), np.uint8)
    for row, index in enumerate(rows):
        mask[row] = index
    return mask


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_binary_mask_is_saved_as_0_and_255():
    assert np.unique(mask_picture(striped(1), classes=2)).tolist() == [0, 255]


def test_mask_of_several_classes_is_saved_as_class_numbers():
    mask = striped(1, 2)
    np.testing.assert_array_equal(mask_picture(mask, classes=3), mask)


def test_overlay_tints_the_foreground_and_nothing_else():
    found = overlay(GREY, striped(1), classes=2)
    assert (found.shape, found.dtype) == ((4, 6, 3), np.uint8)
    assert (found[1:] == 102).all()
    half_way = [(102 + part) / 2 for part in rgb(COLOURS[0])]
    assert found[0, 0].tolist() == pytest.approx(half_way, abs=1)
    assert (found[0] == found[0, 0]).all()


def test_each_class_has_its_colour():
    found = overlay(GREY, striped(1, 2, 3), classes=4)
    for row, colour in enumerate(COLOURS[:3]):
        assert found[row, 0].tolist() == pytest.approx([(102 + part) / 2 for part in rgb(colour)], abs=1)


def test_colours_begin_again_after_the_last():
    last = len(COLOURS) + 1
    found = overlay(GREY, striped(1, last), classes=last + 1)
    assert found[0, 0].tolist() == found[1, 0].tolist()


def test_empty_mask_leaves_the_scan_as_it_is():
    assert (overlay(GREY, striped(), classes=2) == 102).all()


def test_colour_scans_keep_their_colours_in_the_background():
    image = np.stack([np.full((4, 6), level, np.float32) for level in (0.0, 0.4, 1.0)])
    assert overlay(image, striped(1), classes=2)[3, 5].tolist() == [0, 102, 255]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_decodes_to_the_same_pixels(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    content = png(picture)
    assert content.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 2), (1, 4)])
def test_contact_sheet_has_a_row_of_three_tiles_per_scan(channels, classes):
    shapes = [(40, 40), (30, 60), (300, 20)]
    pairs = [(np.full((channels, *s), 0.4, np.float32), striped(1, height=s[0], width=s[1])) for s in shapes]
    sheet = contact_sheet(pairs, classes)
    assert (sheet.shape, sheet.dtype) == ((3 * (256 + 4) + 4, 3 * (256 + 4) + 4, 3), np.uint8)


def test_contact_sheet_shows_image_mask_and_overlay_side_by_side():
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 1
    sheet = contact_sheet([(np.full((1, 32, 32), 0.4, np.float32), mask)], classes=2)
    above, below = 4 + 64, 4 + 192
    columns = [4 + 128 + 260 * tile for tile in range(3)]
    tinted = [(102 + part) / 2 for part in rgb(COLOURS[0])]
    assert [sheet[above, column].tolist() for column in columns[:2]] == [[102] * 3, [255] * 3]
    assert sheet[above, columns[2]].tolist() == pytest.approx(tinted, abs=1)
    assert [sheet[below, column].tolist() for column in columns] == [[102] * 3, [0] * 3, [102] * 3]


def test_contact_sheet_shows_classes_in_their_colours():
    mask = np.full((32, 32), 2, np.uint8)
    sheet = contact_sheet([(np.zeros((1, 32, 32), np.float32), mask)], classes=3)
    assert sheet[132, 4 + 260 + 128].tolist() == rgb(COLOURS[1])


@pytest.mark.parametrize(("index", "colour"), [(1, "#102030"), (2, COLOURS[1]), (3, COLOURS[2])])
def test_contact_sheet_and_overview_draw_in_the_datasets_own_colours_where_it_has_some(index, colour):
    labels = [ClassLabel("background"), ClassLabel("artery", "#102030"), ClassLabel("vein")]
    scan = (np.zeros((1, 32, 32), np.float32), np.full((32, 32), index, np.uint8))
    sheet = contact_sheet([scan], 4, labels)
    assert sheet[132, 4 + 260 + 128].tolist() == rgb(colour)
    tinted = pytest.approx([part / 2 for part in rgb(colour)], abs=1)
    assert sheet[132, 4 + 2 * 260 + 128].tolist() == tinted
    assert overview([scan], 4, columns=1, labels=labels)[132, 4 + 260 + 128].tolist() == tinted


def test_overview_shows_each_scan_beside_itself_with_its_mask():
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 1
    pairs = [(np.full((1, 32, 32), level, np.float32), mask) for level in (0.2, 0.4, 0.6)]
    picture = overview(pairs, classes=2, columns=2)
    assert picture.shape == (2 * 260 + 4, 4 * 260 + 4, 3)
    for number, level in enumerate((51, 102, 153)):
        row, column = divmod(number, 2)
        above, left = 4 + 260 * row, 4 + 520 * column
        assert picture[above + 64, left + 128].tolist() == [level] * 3
        tinted = [(level + part) / 2 for part in rgb(COLOURS[0])]
        assert picture[above + 64, left + 260 + 128].tolist() == pytest.approx(tinted, abs=1)
        assert picture[above + 192, left + 260 + 128].tolist() == [level] * 3


def test_large_scans_are_thinned_out_for_a_sheet():
    image, mask = sheet_row(np.full((1, 1300, 800), 255, np.uint8), np.ones((1300, 800), np.uint8))
    assert (image.shape, mask.shape) == ((1, 434, 267), (434, 267))  # every third pixel
    assert image.max() == 1


@pytest.mark.parametrize("channels", [2, 4])
def test_of_several_modalities_the_first_is_shown(channels):
    image = np.concatenate([GREY, np.ones((channels - 1, 4, 6), np.float32)])
    mask = striped(1, 2)
    np.testing.assert_array_equal(overlay(image, mask, classes=3), overlay(GREY, mask, classes=3))
    colours = ("#ffffff", "#ff0000", "#0000ff", "#00ff00")
    np.testing.assert_array_equal(comparison(image, mask, mask, colours), comparison(GREY, mask, mask, colours))
