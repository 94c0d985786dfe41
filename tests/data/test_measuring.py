from __future__ import annotations

import numpy as np
import pytest

from octa_backend.data import measuring
from octa_backend.data.masks import MaskValues
from octa_backend.data.measuring import measure, measure_image, measure_mask
from octa_backend.data.scans import ImagePixels, MaskPixels
from octa_backend.data.synthetic import make_scan


def image_of(values, dtype=np.uint8):
    """(1, H, W) from rows."""
    return np.array(values, dtype=dtype)[None]


def halves(left, right, side=16, dtype=np.uint8):
    """An image whose left half has one value and whose right half has another."""
    image = np.full((1, side, side), left, dtype)
    image[..., side // 2 :] = right
    return image


@pytest.fixture(scope="module")
def vessels():
    made = make_scan(128, np.random.default_rng(3))
    return made.image[None], made.mask.astype(np.uint8) * np.uint8(255)


# --- images ----------------------------------------------------------------------------------------------------------


def test_an_8_bit_image_is_measured_in_parts_of_255():
    found = measure_image(halves(0, 255), "none")
    assert (found.shape, found.channels, found.dtype, found.alpha) == ((16, 16), 1, "uint8", "none")
    assert (found.low, found.high, found.robust_low, found.robust_high) == (0, 255, 0, 255)
    assert (found.mean, found.std) == (0.5, 0.5)
    assert (found.dark_fraction, found.bright_fraction) == (0.5, 0.5)
    assert found.entropy_bits == 1.0


@pytest.mark.parametrize(("value", "dark", "bright"), [(5, 1, 0), (6, 0, 0), (249, 0, 0), (250, 0, 1)])
def test_dark_and_bright_are_the_outermost_2_percent(value, dark, bright):
    found = measure_image(halves(value, value), "none")
    assert (found.dark_fraction, found.bright_fraction) == (dark, bright)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_deeper_image_is_measured_between_its_own_extremes(dtype):
    found = measure_image(halves(1000, 3000, dtype=dtype), "none")
    assert (found.low, found.high) == (1000, 3000)
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(0.5)
    assert (found.dark_fraction, found.bright_fraction) == (0.5, 0.5)
    assert set(np.unique(found.thumbnail)) == {0, 255}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_constant_image_has_neither_spread_nor_detail(dtype):
    found = measure_image(halves(7, 7, dtype=dtype), "none")
    assert (found.low, found.high, found.std, found.sharpness, found.entropy_bits) == (7, 7, 0, 0, 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_few_hot_pixels_do_not_stretch_the_robust_range(dtype):
    image = np.linspace(100, 200, 10_000).reshape(1, 100, 100).astype(dtype)
    image[0, 0, :3] = 60_000
    found = measure_image(image, "none")
    assert found.high == 60_000
    assert found.robust_low == pytest.approx(100.5, abs=1)
    assert found.robust_high == pytest.approx(199.5, abs=1)
    assert found.thumbnail.std() > 50


def test_sharpness_is_the_laplacian_beyond_two_grey_levels_over_the_variance():
    image = np.full((1, 17, 17), 100, np.uint8)
    image[0, 8, 8] = 112
    # Laplacians: 48 at the point, -12 beside it; 46 and four times 10 beyond 2; 15 x 15 inner pixels.
    variance = 12**2 * (1 / 289) * (288 / 289)
    assert measure_image(image, "none").sharpness == pytest.approx((46**2 + 4 * 10**2) / 225 / variance, rel=1e-5)


def test_steps_of_rounding_are_no_detail():
    ramp = np.repeat(np.arange(32, dtype=np.uint8), 4)[None, None, :].repeat(128, axis=1)
    assert measure_image(np.ascontiguousarray(ramp), "none").sharpness == 0


def test_detail_is_measured_on_every_second_row_of_a_large_image(monkeypatch):
    monkeypatch.setattr(measuring, "SAMPLED_ROWS", 8)
    image = np.full((1, 17, 17), 100, np.uint8)
    image[0, 9, 8] = 112
    # Of rows 1, 3, … 15 row 9 has 46 and twice 10 beyond 2 grey levels; rows 8 and 10, with a 10 each, are not seen.
    variance = 12**2 * (1 / 289) * (288 / 289)
    assert measure_image(image, "none").sharpness == pytest.approx((46**2 + 2 * 10**2) / 120 / variance, rel=1e-5)


def test_auc_is_measured_on_sampled_rows_and_on_all_where_these_show_no_foreground(monkeypatch):
    mask, image = np.zeros((16, 16), np.uint8), np.full((16, 16), 50, np.uint8)
    mask[0, :4], mask[1, :4] = 255, 255
    image[0, :4], image[1, :4] = 200, 10
    assert masks_statistics(mask, image[None]).auc == 0.5
    monkeypatch.setattr(measuring, "SAMPLED_ROWS", 8)
    assert masks_statistics(mask, image[None]).auc == 1.0
    mask[0] = 0
    assert masks_statistics(mask, image[None]).auc == 0.0


def test_colours_count_as_luma():
    image = np.zeros((3, 16, 16), np.uint8)
    image[0], image[1], image[2] = 200, 100, 50
    assert np.unique(measure_image(image, "none").thumbnail).tolist() == [(77 * 200 + 150 * 100 + 29 * 50) // 256]


def test_the_thumbnail_holds_area_means():
    image = np.zeros((1, 64, 64), np.uint8)
    image[0, :2, :2] = [[10, 20], [30, 40]]
    found = measure_image(image, "none").thumbnail
    assert found.shape == (32, 32)
    assert found[0, 0] == 25
    assert found.sum() == 25


def test_equal_pixels_have_equal_digests():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    digests = [
        measure_image(changed, "none").digest
        for changed in (image, image.copy(), image[:, ::-1], image.reshape(1, 8, 32), image.astype(np.uint16))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


# --- masks -----------------------------------------------------------------------------------------------------------


def masks_statistics(values, image=None, dtype=np.uint8):
    values = np.asarray(values, dtype)
    image = np.zeros((1, *values.shape), np.uint8) if image is None else image
    return measure_mask(MaskPixels(values), image)


def quarter(value=255, side=16, dtype=np.uint8):
    mask = np.zeros((side, side), dtype)
    mask[: side // 2, : side // 2] = value
    return mask


def test_a_binary_mask_has_its_values_with_their_pixels_and_its_share_of_foreground():
    found = masks_statistics(quarter())
    assert found.values == MaskValues(2, (0, 255), 255)
    assert found.counts == ((0, 192), (255, 64))
    assert (found.foreground_fraction, found.histogram, found.colours) == (0.25, None, ())
    assert found.thumbnail.shape == (16, 16)
    assert found.thumbnail.sum() == 64 * 255


def test_class_numbers_have_no_histogram_and_all_but_0_are_foreground():
    mask = quarter(1)
    mask[8:, 8:] = 32
    found = masks_statistics(mask)
    assert (found.counts, found.histogram) == (((0, 128), (1, 64), (32, 64)), None)
    assert found.foreground_fraction == 0.5


def test_a_mask_of_many_values_has_a_histogram_and_its_upper_half_is_foreground():
    mask = quarter(200)
    mask[0, 15], mask[1, 15] = 99, 101
    found = masks_statistics(mask)
    assert found.histogram is not None
    assert {value: int(found.histogram[value]) for value in (0, 99, 101, 200)} == {0: 190, 99: 1, 101: 1, 200: 64}
    assert found.foreground_fraction == 65 / 256


@pytest.mark.parametrize(
    ("values", "dtype", "bins"),
    [
        ((0, 100, 60_000), np.uint16, {0: 254, 60_000 >> 8: 2}),
        ((0, 40, 200), np.uint16, {0: 253, 40: 1, 200: 2}),
        ((-5, 0, 70_000), np.int64, {0: 254, 255: 2}),
    ],
)
def test_deep_masks_are_counted_by_their_high_byte(values, dtype, bins):
    mask = np.full((16, 16), values[0], dtype)
    mask[0, 0], mask[0, 1:3] = values[1:]
    histogram = masks_statistics(mask, dtype=dtype).histogram
    assert histogram is not None
    assert histogram.sum() == 256
    assert {value: int(histogram[value]) for value in bins} == bins


def test_many_different_values_are_not_counted_one_by_one():
    found = masks_statistics(np.arange(256).reshape(16, 16))
    assert found.counts == ()
    assert (found.values.count, found.values.lowest) == (256, tuple(range(33)))


def test_a_coloured_mask_has_its_colours_with_their_pixels():
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[0], rgb[1, :4] = (255, 0, 0), (0, 0, 9)
    found = measure_mask(MaskPixels(None, (), 3, rgb), np.zeros((1, 16, 16), np.uint8))
    assert found.colours == (((0, 0, 0), 236), ((255, 0, 0), 16), ((0, 0, 9), 4))
    assert (found.colour_count, found.auc, found.histogram, found.counts) == (3, None, None, ())
    assert found.foreground_fraction == 20 / 256


def test_very_many_colours_are_gathered_by_their_upper_bits():
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[8:, :, 0] = 240 + np.arange(128).reshape(8, 16) % 16
    rgb[8:, :, 1] = np.arange(128).reshape(8, 16) // 16
    found = measure_mask(MaskPixels(None, (), 129, rgb), np.zeros((1, 16, 16), np.uint8))
    assert found.colour_count == 129
    assert [area for _, area in found.colours] == [128, 128]


# --- masks on their images -------------------------------------------------------------------------------------------


def test_auc_is_1_where_intensity_tells_all_and_a_half_where_it_tells_nothing():
    mask = quarter()
    bright = np.where(mask > 0, 200, 50).astype(np.uint8)[None]
    assert masks_statistics(mask, bright).auc == 1.0
    assert masks_statistics(mask, 255 - bright).auc == 0.0
    assert masks_statistics(mask, np.full_like(bright, 9)).auc == 0.5


def test_auc_counts_pairs_of_inside_and_outside():
    mask = np.zeros((16, 16), np.uint8)
    mask[0, :2] = 255
    image = np.full(256, 10, np.uint8)
    image[0], image[2:129] = 20, 30
    # Inside 20 and 10, outside 127 times 30 and 127 times 10: 127 of 508 pairs are won, 127 are equal.
    assert masks_statistics(mask, image.reshape(1, 16, 16)).auc == pytest.approx(190.5 / 508)


@pytest.mark.parametrize("values", [np.zeros((16, 16)), np.ones((16, 16)), quarter(side=20)], ids=["0", "1", "size"])
def test_empty_full_and_other_sized_masks_are_not_compared_with_the_image(values):
    found = masks_statistics(values, halves(0, 9))
    assert (found.auc, found.shift, found.best_agreement, found.edge_agreement) == (None, (0, 0), 0, 0)
    assert found.shift_gain == 0


def test_a_mask_agrees_with_its_image_as_it_lies(vessels):
    image, mask = vessels
    found = masks_statistics(mask, image)
    assert found.shift == (0, 0)
    assert found.edge_agreement == found.best_agreement > 8
    assert found.shift_gain == 0


@pytest.mark.parametrize("moved", [(6, 0), (0, -7), (-5, 8)])
def test_a_shifted_mask_tells_how_far_it_would_have_to_move_back(vessels, moved):
    image, mask = vessels
    found = masks_statistics(np.roll(mask, moved, (0, 1)), image)
    assert found.shift == (-moved[0], -moved[1])
    assert found.shift_gain > 0.5


def test_a_mask_of_another_scan_agrees_nowhere(vessels):
    image, _ = vessels
    other = make_scan(128, np.random.default_rng(4)).mask
    found = masks_statistics(other, image)
    assert found.best_agreement < 6
    assert abs(found.edge_agreement) < 4.5


def test_inverted_images_and_masks_agree_as_well(vessels):
    image, mask = vessels
    plain = masks_statistics(mask, image)
    for changed in (masks_statistics(mask, 255 - image), masks_statistics(255 - mask, image)):
        assert changed.shift == (0, 0)
        assert changed.edge_agreement == pytest.approx(plain.edge_agreement, rel=0.01)


# --- many scans together ---------------------------------------------------------------------------------------------


def same(first, second):
    """Statistics that agree in every number."""
    for name in first.__dataclass_fields__:
        one, other = getattr(first, name), getattr(second, name)
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, other), name
        else:
            assert one == (pytest.approx(other, rel=1e-4) if isinstance(one, float) else other), name


def test_scans_measured_together_have_the_numbers_they_have_alone():
    """Of different sizes, depths, channels and kinds of masks, in no order."""
    drawn = [make_scan(side, np.random.default_rng(side)) for side in (96, 64, 96, 64, 96, 96, 64)]
    images = [scan.image[None] for scan in drawn]
    images[2], images[3] = images[2].repeat(3, axis=0), images[3].astype(np.uint16) * np.uint16(9)
    masks = [MaskPixels(scan.mask.astype(np.uint8) * np.uint8(255)) for scan in drawn]
    masks[1] = MaskPixels(drawn[1].image)
    masks[4] = MaskPixels(None, (), 2, drawn[4].mask[..., None].astype(np.uint8) * np.array([9, 0, 0], np.uint8))
    masks[5], masks[6] = MaskPixels(np.zeros((96, 96), np.uint8)), MaskPixels(np.ones((32, 64), np.uint8))
    found = measure([ImagePixels(image, "none") for image in images], masks)
    for (of_image, of_mask), image, mask in zip(found, images, masks, strict=True):
        same(of_image, measure_image(image, "none"))
        same(of_mask, measure_mask(mask, image))


def test_nothing_has_no_statistics():
    assert measure([], []) == []
