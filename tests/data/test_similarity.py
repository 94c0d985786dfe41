from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from octa_backend.data import greys, similarity
from octa_backend.data.similarity import flipped, look_alikes
from octa_backend.data.synthetic import make_scan

SIDE = 160


@pytest.fixture(scope="module")
def images():
    """Twelve different scans."""
    return [make_scan(SIDE, np.random.default_rng([2, number])).image for number in range(12)]


def thumbnails(images):
    return np.concatenate([greys.thumbnails(np.ascontiguousarray(image)[None], 32) for image in images])


def pairs(images):
    return {(found.first, found.second): found for found in look_alikes(thumbnails(images))}


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def clipped(values):
    return np.clip(values, 0, 255).astype(np.uint8)


def moved(image, pixels):
    return np.pad(image, ((pixels, 0), (pixels, 0)), mode="edge")[:SIDE, :SIDE]


CHANGES = {
    "recompressed": jpeg,
    "brighter": lambda image: clipped(image * 0.8 + 40),
    "more contrast": lambda image: clipped(image * 1.3),
    "noisy": lambda image: clipped(image + np.random.default_rng(1).normal(0, 8, image.shape)),
    "smaller": lambda image: np.asarray(Image.fromarray(image).resize((100, 100))),
    "softer": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))),
    "shifted": lambda image: moved(image, 2),
}


def test_different_scans_are_not_alike(images):
    assert pairs(images) == {}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(images, change):
    found = pairs([*images, change(images[4])])
    assert list(found) == [(4, 12)]
    assert found[4, 12].flip == "none"
    assert found[4, 12].value > 0.74


@pytest.mark.parametrize("flip", ["left_right", "up_down", "both"])
def test_a_mirrored_copy_is_found_and_says_how_it_is_mirrored(images, flip):
    found = pairs([flipped(images[0], flip), *images])
    assert {pair: alike.flip for pair, alike in found.items()} == {(0, 1): flip}


def test_a_far_shift_is_told(images):
    assert pairs([*images, moved(images[1], 3)])[1, 12].shifted
    assert not pairs([*images, jpeg(images[1])])[1, 12].shifted


def test_constant_images_are_like_no_other(images):
    assert pairs([np.full((SIDE, SIDE), 9, np.uint8)] * 2 + images[:3]) == {}


def test_what_all_images_of_a_set_have_in_common_makes_no_copies(images):
    """Scans in a round picture on black, as fundus photographs are: alike by their border."""
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    disc = rows**2 + columns**2 < (0.45 * SIDE) ** 2
    round_ones = [clipped((120 + image * 0.15) * disc) for image in images]
    assert pairs(round_ones) == {}
    assert list(pairs([*round_ones, jpeg(round_ones[3])])) == [(3, 12)]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_make_no_pair(images, count):
    assert look_alikes(np.zeros((count, 32, 32), np.uint8)) == []


def test_of_two_images_copies_are_found_and_others_not(images):
    assert list(pairs([images[0], jpeg(images[0])])) == [(0, 1)]
    assert pairs(images[:2]) == {}


def test_only_the_best_candidates_are_compared_finely(images, monkeypatch):
    monkeypatch.setattr(similarity, "MOST_CANDIDATES", 1)
    monkeypatch.setattr(similarity, "COARSE_CORRELATION", -1.0)
    monkeypatch.setattr(similarity, "_BLOCK", 4)
    assert list(pairs([*images, jpeg(images[6])])) == [(6, 12)]
