from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from octa_backend.diagnosis import encoding
from octa_backend.diagnosis.encoding import examine_encoding
from octa_backend.diagnosis.findings import MAX_SCANS, Remedy, Severity
from octa_backend.diagnosis.mask_greys import is_smoothed
from octa_backend.diagnosis.messages import describe
from tests.diagnosis.scans import by_code, drawn, image_with, mask_values, mask_with, measured, sound


def found_in(scans):
    return by_code(examine_encoding(scans, mask_values(scans)))


def jpeg(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def with_masks(change, chosen=(0, 1, 2), count=6):
    """Sound scans, some with a changed mask."""
    scans = sound(count)
    for number in chosen:
        image, mask = drawn(number)
        scans[number] = measured(f"s{number:02d}", image, change(mask))
    return scans


def test_sound_scans_have_no_finding():
    assert found_in(sound(6)) == {}


# --- values ----------------------------------------------------------------------------------------------------------


def test_masks_of_many_values_are_an_error_with_their_number():
    scans = with_masks(jpeg)
    found = found_in(scans)["masks_not_binary"]
    values = [scan.of_mask.values.count for scan in scans[:3]]
    assert (found.severity, found.scans, found.remedy) == (
        Severity.ERROR,
        ("s00", "s01", "s02"),
        Remedy("binarize_masks"),
    )
    assert found.evidence["unique_values"] == max(values)
    assert (found.evidence["expected"], found.evidence["kind"], found.evidence["count"]) == (2, "smoothed", 3)
    assert f"up to {max(values)} unique values (2 expected)" in describe(found, "en")["message"]
    assert f"3 个掩码包含 {max(values)} 个唯一值 (期望 2 个)" in describe(found, "zh")["message"]


def test_grey_pictures_in_place_of_masks_are_told_apart_from_smoothed_ones():
    scans = with_masks(lambda mask: drawn(5)[0])
    assert found_in(scans)["masks_not_binary"].evidence["kind"] == "grey"


def test_two_valued_masks_that_do_not_agree_are_unequal():
    scans = [measured(f"{value}", drawn(0)[0], drawn(0)[1] // 255 * np.uint8(value)) for value in (100, 200)]
    found = found_in(scans)["masks_not_binary"]
    assert (found.evidence["kind"], found.evidence["unique_values"]) == ("unequal", 2)
    assert found.evidence["files"] == {"100": "2: 0, 100", "200": "2: 0, 200"}


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask,
        lambda mask: mask // 255,
        lambda mask: mask.astype(np.uint16) * 257,
        lambda mask: np.minimum(mask, 2),
        np.zeros_like,
    ],
    ids=["0/255", "0/1", "0/65535", "class 2", "empty"],
)
def test_masks_that_make_sense_have_no_finding(change):
    scans = with_masks(change, range(6))
    assert "masks_not_binary" not in found_in(scans)


def test_where_other_masks_number_classes_nothing_is_binarized():
    scans = with_masks(jpeg, [0])
    image, mask = drawn(1)
    classes = mask // 255
    classes[: len(classes) // 2] *= 2
    scans[1] = measured("s01", image, classes)
    found = found_in(scans)["masks_not_binary"]
    assert (found.scans, found.remedy) == (("s00",), None)


def test_negative_values_have_no_remedy():
    scans = with_masks(lambda mask: -(mask.astype(np.int64) // 255), [0])
    assert found_in(scans)["masks_not_binary"].remedy is None


@pytest.mark.parametrize(
    ("dark", "middle", "bright", "expected"),
    [
        (80, 15, 5, True),
        (60, 30, 10, True),
        (60, 31, 9, False),
        (90, 10, 0, False),
        (0, 5, 95, False),
        (0, 100, 0, False),
    ],
)
def test_values_at_both_ends_were_two_values_once(dark, middle, bright, expected):
    histogram = np.zeros(256, np.int64)
    histogram[3], histogram[120], histogram[250] = dark, middle, bright
    assert is_smoothed(histogram) is expected


# --- colours ---------------------------------------------------------------------------------------------------------


def red(mask):
    rgb = np.zeros((*mask.shape, 3), np.uint8)
    rgb[mask > 0] = (255, 0, 0)
    return rgb


def test_coloured_masks_are_an_error_with_a_map_of_their_colours():
    found = found_in(with_masks(red))["masks_coloured"]
    assert (found.severity, found.scans) == (Severity.ERROR, ("s00", "s01", "s02"))
    assert found.remedy == Remedy("map_colours", {"colours": {"#000000": 0, "#ff0000": 255}})
    assert (found.evidence["colours"], found.evidence["colour_count"]) == (["#000000", "#ff0000"], 2)
    assert found.evidence["files"]["s00"] == "2: #000000, #ff0000"


def test_coloured_masks_beside_plain_ones_are_no_reason_to_doubt_those():
    assert set(found_in(with_masks(red))) == {"masks_coloured"}


def test_photographs_in_place_of_masks_have_no_map():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    found = found_in(with_masks(lambda mask: noise))["masks_coloured"]
    assert found.remedy is None
    assert found.evidence["files"]["s00"].endswith(", …")


# --- polarity --------------------------------------------------------------------------------------------------------


def inverted(mask):
    return 255 - mask


def test_some_inverted_masks_are_surely_inverted():
    found = found_in(with_masks(inverted, [1, 4], count=8))["masks_inverted"]
    assert (found.severity, found.scans, found.remedy) == (Severity.ERROR, ("s01", "s04"), Remedy("invert_masks"))
    assert (found.evidence["count"], found.evidence["total"]) == (2, 8)


def test_all_masks_inverted_are_a_warning():
    found = found_in(with_masks(inverted, range(6)))["masks_inverted"]
    assert (found.severity, len(found.scans)) == (Severity.WARNING, 6)


def numbered(foreground, auc):
    """Scans with these shares of foreground and these AUCs."""
    scans = sound(len(foreground))
    return [
        mask_with(scan, foreground_fraction=share, auc=area)
        for scan, share, area in zip(scans, foreground, auc, strict=True)
    ]


@pytest.mark.parametrize(
    ("foreground", "auc", "severity"),
    [
        ([0.78] * 6, [0.9] * 6, None),  # membranes: cells are most of the picture, and bright
        ([0.81] * 6, [0.3] * 6, Severity.WARNING),
        ([0.81] * 6, [0.7] * 6, None),
        ([0.9] * 6, [0.7] * 6, Severity.WARNING),  # dark vessels inverted
        ([0.1] * 5 + [0.9], [0.9] * 5 + [0.8], None),  # a full scan, as bright inside as the others
        ([0.1] * 5 + [0.5], [0.9] * 5 + [0.2], None),  # dark inside, but no more than half
        ([0.1] * 5 + [0.56], [0.9] * 5 + [0.2], Severity.ERROR),
        ([0.9] * 5 + [0.1], [0.9] * 5 + [0.2], Severity.ERROR),
        ([0.1] * 5 + [0.9], [0.55] * 5 + [0.2], None),  # intensity says nothing
        ([0.1, 0.9], [0.9, 0.1], None),  # of two, nobody knows which
    ],
)
def test_polarity_is_judged_by_foreground_and_intensity(foreground, auc, severity):
    found = by_code(examine_encoding(numbered(foreground, auc), (0, 255)))
    assert (found["masks_inverted"].severity if found else None) is severity


def test_classes_have_no_polarity():
    assert examine_encoding(numbered([0.1] * 5 + [0.9], [0.9] * 5 + [0.1]), (0, 1, 2)) == []


# --- images ----------------------------------------------------------------------------------------------------------


def deep(number, hot=0):
    image, mask = drawn(number)
    image = image.astype(np.uint16) * 10
    image.ravel()[:hot] = 65535
    return measured(f"s{number:02d}", image, mask)


def test_a_few_hot_pixels_compress_the_range():
    found = found_in([deep(number, hot=3) for number in range(3)])["range_compressed"]
    assert (found.severity, found.evidence["threshold"]) == (Severity.WARNING, encoding.USED_RANGE)
    assert found.evidence["files"]["s01"].endswith("of 0–65535")


def test_deep_images_that_use_their_range_have_no_finding():
    assert found_in([deep(number) for number in range(3)]) == {}


def test_8_bit_images_among_deeper_ones_are_told():
    found = found_in([*sound(3), deep(4), deep(5)])["depths_mixed"]
    assert (found.severity, found.scans, found.evidence["total"]) == (Severity.WARNING, ("s04", "s05"), 5)


@pytest.mark.parametrize(
    ("alpha", "code", "severity"),
    [("varies", "alpha_varies", Severity.WARNING), ("constant", "alpha_constant", Severity.INFO)],
)
def test_alpha_is_told_by_whether_it_carries_something(alpha, code, severity):
    scans = sound(3)
    scans[1] = image_with(scans[1], alpha=alpha)
    (found,) = examine_encoding(scans, (0, 255))
    assert (found.code, found.severity, found.scans, found.remedy) == (code, severity, ("s01",), Remedy("drop_alpha"))


def test_a_finding_names_the_first_scans_and_counts_all():
    scans = [image_with(scan, alpha="varies") for scan in sound(MAX_SCANS + 5)]
    (found,) = examine_encoding(scans, (0, 255))
    assert (len(found.scans), found.evidence["count"]) == (MAX_SCANS, MAX_SCANS + 5)
