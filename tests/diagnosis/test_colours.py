from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from octa_backend.diagnosis.colours import colour_map
from tests.diagnosis.scans import drawn, measured

BLACK, RED, BLUE, PURPLE = (0, 0, 0), (255, 0, 0), (0, 0, 255), (128, 0, 128)


def painted(*areas):
    """A mask of 100 x 100 pixels with so many pixels of each colour, in rows."""
    pixels = [colour for colour, count in areas for _ in range(count)]
    return np.array(pixels + [BLACK] * (10_000 - len(pixels)), np.uint8).reshape(100, 100, 3)


def vessels(colour, background=BLACK, number=0):
    mask = drawn(number)[1].repeat(2, axis=0).repeat(2, axis=1)
    rgb = np.empty((*mask.shape, 3), np.uint8)
    rgb[:], rgb[mask > 0] = background, colour
    return rgb


def smoothed(rgb):
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(0.6)))


def jpeg(rgb, quality=85):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def mapped(*masks):
    return colour_map([measured("x", rgb[..., 0], rgb).of_mask.colours for rgb in masks])


def test_black_is_0_and_the_only_other_colour_is_255():
    assert mapped(vessels(RED)) == {"#000000": 0, "#ff0000": 255}


def test_without_black_the_commonest_colour_is_background():
    assert mapped(vessels(RED, background=(0, 0, 128))) == {"#000080": 0, "#ff0000": 255}


def test_black_is_background_even_where_it_is_rare():
    assert mapped(painted((RED, 9_000))) == {"#000000": 0, "#ff0000": 255}


def test_classes_are_numbered_by_their_area_over_all_masks_together():
    found = mapped(painted((RED, 100), (BLUE, 50)), painted((BLUE, 500)), painted((RED, 10)))
    assert found == {"#000000": 0, "#0000ff": 1, "#ff0000": 2}


def test_a_single_colour_between_two_others_is_a_class():
    assert mapped(painted((RED, 900), (BLUE, 800), (PURPLE, 30))) == {
        "#000000": 0, "#ff0000": 1, "#0000ff": 2, "#800080": 3,
    }  # fmt: skip


def test_two_rare_shades_between_two_colours_are_their_edge():
    shades = [((85, 0, 0), 40), ((170, 0, 0), 30)]
    assert mapped(painted((RED, 900), *shades)) == {"#000000": 0, "#ff0000": 255}


def test_two_common_shades_between_two_colours_are_classes():
    shades = [((85, 0, 0), 700), ((170, 0, 0), 800)]
    assert list(mapped(painted((RED, 900), *shades))) == ["#000000", "#ff0000", "#aa0000", "#550000"]


@pytest.mark.parametrize("colour", [RED, (255, 255, 0), (0, 160, 40)])
def test_smoothed_edges_are_no_classes(colour):
    found = mapped(*(smoothed(vessels(colour, number=number)) for number in range(3)))
    assert list(found.values()) == [0, 255]


@pytest.mark.parametrize("colour", [RED, (255, 255, 0)])
def test_jpeg_makes_no_classes(colour):
    found = mapped(*(jpeg(vessels(colour, number=number)) for number in range(3)))
    assert list(found.values()) == [0, 255]
    assert next(iter(found)) == "#000000"


def test_two_classes_survive_smoothing():
    arteries, veins = vessels(RED, number=1), vessels(BLUE, number=2)
    both = smoothed(np.where(arteries.any(axis=2, keepdims=True), arteries, veins))
    assert len(mapped(both)) == 3


def test_pictures_that_no_few_colours_make_up_have_no_map():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert mapped(noise) == {}
    assert colour_map([]) == {}
