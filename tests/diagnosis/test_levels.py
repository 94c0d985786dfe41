from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from octa_backend.data.mask_values import standing_pixels
from octa_backend.data.mask_values import values_and_counts as counted
from octa_backend.diagnosis.encoding import examine_encoding
from octa_backend.diagnosis.findings import Remedy, Severity
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.remedies import is_safe, plan_repair
from tests.diagnosis.scans import by_code, drawn, examination, mask_values, measured, sound

SIDE = 96


def disc(radius=10):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - SIDE // 2) ** 2 + (columns - SIDE // 2) ** 2 < radius**2


def levels(vessels, zone):
    """Masks of vessels and an avascular zone in the middle, in grey levels."""

    def change(mask):
        return np.where(disc(), zone, np.where(mask > 0, vessels, 0)).astype(np.uint8)

    return change


def four_levels(mask):
    upper = np.vstack([mask[: SIDE // 2] // 3 * 2, mask[SIDE // 2 :]])
    return np.where(disc(), np.uint8(85), upper)


def resized(mask):
    """Smoothed by drawing at twice the size: 0, 64, 128, 192 and 255."""
    large = drawn(np.count_nonzero(mask) % 7, 2 * SIDE)[1]
    return np.asarray(Image.fromarray(large).resize((SIDE, SIDE), Image.Resampling.BOX))


def posterised(mask):
    """Slightly blurred, and saved in four greys."""
    blurred = np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(0.5)))
    return np.rint(blurred / 85).astype(np.uint8) * np.uint8(85)


def with_masks(change, chosen=range(4), count=4):
    return [
        measured(f"s{n:02d}", drawn(n)[0], change(drawn(n)[1]) if n in chosen else drawn(n)[1]) for n in range(count)
    ]


def found_in(scans):
    return by_code(examine_encoding(scans, mask_values(scans)))


# --- what is an edge --------------------------------------------------------------------------------------------------


def standing(mask):
    ((_, areas),) = counted(mask[np.newaxis])
    return dict(standing_pixels(mask, areas))


def test_the_border_between_two_values_is_an_edge_and_a_bar_on_background_is_none():
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:], mask[:, 18:20], mask[10:13, 2:10] = 255, 128, 100
    assert standing(mask) == {100: 24, 128: 0}


def test_shades_beside_a_darker_shade_are_an_edge_though_nothing_is_brighter():
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 10:13], mask[:, 11], mask[:5, 30:] = 60, 120, 255
    assert standing(mask) == {60: 0, 120: 0}


@pytest.mark.parametrize("values", [2, 9])
def test_masks_of_two_or_of_many_values_have_no_levels(values):
    assert standing(np.arange(values, dtype=np.uint8).repeat(20)[np.newaxis].repeat(20, axis=0)) == {}


def test_deep_masks_have_levels_like_others():
    mask = np.zeros((30, 30), np.uint16)
    mask[2:9, 2:9], mask[20:28, 20:28] = 30_000, 65_535
    assert standing(mask) == {30_000: 49}


# --- levels that are classes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "colours"),
    [
        (levels(255, 100), {"#000000": 0, "#646464": 1, "#ffffff": 2}),
        (levels(128, 255), {"#000000": 0, "#808080": 1, "#ffffff": 2}),
        (four_levels, {"#000000": 0, "#555555": 1, "#aaaaaa": 2, "#ffffff": 3}),
    ],
    ids=["0/100/255", "0/128/255", "0/85/170/255"],
)
def test_levels_that_cover_areas_are_told_as_classes_and_mapped_only_if_asked_for(change, colours):
    scans = with_masks(change)
    found = found_in(scans)
    assert set(found) == {"masks_grey_levels"}
    finding = found["masks_grey_levels"]
    assert (finding.severity, finding.remedy) == (Severity.ERROR, Remedy("map_colours", {"colours": colours}))
    assert not is_safe(finding)
    steps = plan_repair(examination(scans), ["map_colours"])
    assert {step.scan: step.details["colours"] for step in steps} == {f"s{n:02d}": colours for n in range(4)}


def test_the_message_proposes_numbers_in_both_languages():
    finding = found_in(with_masks(levels(255, 100)))["masks_grey_levels"]
    assert "save them as 0 → 0, 100 → 1, 255 → 2" in describe(finding, "en")["message"]
    assert "请改存为 0 → 0, 100 → 1, 255 → 2" in describe(finding, "zh")["message"]


def test_masks_of_the_set_that_lack_a_class_are_numbered_with_the_others():
    scans = with_masks(levels(255, 100), chosen=(0, 2), count=5)
    scans[4] = measured("s04", drawn(4)[0], np.zeros((SIDE, SIDE), np.uint8))
    assert found_in(scans)["masks_grey_levels"].scans == ("s00", "s02")
    assert [step.scan for step in plan_repair(examination(scans), ["map_colours"])] == ["s00", "s01", "s02", "s03"]


def test_beside_levels_that_are_classes_smoothed_masks_are_not_cut_unasked():
    scans = with_masks(levels(255, 100), chosen=(0, 1, 2))
    blurred = Image.fromarray(drawn(3)[1]).filter(ImageFilter.GaussianBlur(1))
    scans[3] = measured("s03", drawn(3)[0], np.asarray(blurred))
    found = found_in(scans)
    assert (found["masks_grey_levels"].scans, found["masks_not_binary"].scans) == (("s00", "s01", "s02"), ("s03",))
    assert found["masks_not_binary"].remedy is None


def test_levels_deeper_than_8_bit_are_told_without_a_remedy():
    scans = with_masks(lambda mask: levels(255, 100)(mask).astype(np.uint16) * 257)
    assert found_in(scans)["masks_grey_levels"].remedy is None


def test_masks_that_are_0_and_1_beside_levels_leave_their_meaning_to_the_user():
    scans = with_masks(levels(255, 100), chosen=(0, 1, 2))
    scans[3] = measured("s03", drawn(3)[0], drawn(3)[1] // 255)
    assert found_in(scans)["masks_grey_levels"].remedy is None


# --- levels that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [resized, posterised])
def test_smoothed_edges_of_few_levels_are_cut_as_before(change):
    scans = with_masks(change)
    found = found_in(scans)["masks_not_binary"]
    assert (found.evidence["kind"], found.remedy) == ("smoothed", Remedy("binarize_masks"))
    assert is_safe(found)
    assert {step.remedy for step in plan_repair(examination(scans), ["binarize_masks", "map_colours"])} == {
        "binarize_masks"
    }


def test_stray_pixels_and_a_level_in_one_mask_are_no_classes():
    def stray(mask):
        return np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3000 == 0, np.uint8(128), mask)

    assert set(found_in(with_masks(stray))) == {"masks_not_binary"}
    assert set(found_in(with_masks(levels(255, 100), chosen=[1]))) == {"masks_not_binary"}


def test_levels_near_black_and_white_are_no_classes():
    def off(mask):
        return np.where(disc(), np.uint8(250), np.where(mask > 0, mask, np.uint8(0)))

    assert "masks_grey_levels" not in found_in(with_masks(off))


def test_sound_masks_have_no_levels():
    assert found_in(sound(4)) == {}
