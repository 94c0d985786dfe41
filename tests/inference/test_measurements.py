from __future__ import annotations

import math

import numpy as np
import pytest

from octa_backend.inference.measurement import REASONS, Measurement, shown
from octa_backend.inference.measurements import QUANTITIES, measure, measure_vessels
from octa_backend.inference.scale import MeasureOptions, Scale
from octa_backend.inference.segment_measurements import segment_measurements
from tests.vessels import bar, ellipse_ring, exact_bar


def one_pixel(side=64):
    mask = np.zeros((side, side), bool)
    mask[side // 2, side // 2] = True
    return mask


ODD_MASKS = {
    "empty": np.zeros((64, 64), bool),
    "full": np.ones((64, 64), bool),
    "one pixel": one_pixel(),
    "one pixel of background": ~one_pixel(),
    "1 x 1 empty": np.zeros((1, 1), bool),
    "1 x 1 full": np.ones((1, 1), bool),
    "1 x N full": np.ones((1, 50), bool),
    "1 x N half": np.arange(50)[None] < 25,
    "N x 1 dotted": np.arange(50)[:, None] % 2 == 0,
    "two pixels": np.arange(64 * 64).reshape(64, 64) < 2,
    "one line": exact_bar(1),
    "one row at the border": np.arange(64)[:, None].repeat(64, 1) == 0,
    "chequered": np.indices((64, 64)).sum(0) % 2 == 0,
    "noise": np.random.default_rng(0).random((96, 96)) < 0.5,
    "sparse noise": np.random.default_rng(0).random((96, 96)) < 0.01,
    "2 x 2": np.pad(np.ones((2, 2), bool), 30),
    "ring": ellipse_ring(30, 30),
    "no zone": bar(5),
    "border all round": ~np.pad(np.zeros((62, 62), bool) + True, 1),
}


@pytest.mark.parametrize("scale", [Scale(), Scale(10.0)], ids=["pixels", "micrometres"])
@pytest.mark.parametrize("mask", ODD_MASKS.values(), ids=ODD_MASKS)
def test_whatever_the_mask_every_measurement_is_a_sane_number_or_a_reason(mask, scale):
    found = measure_vessels(mask, scale)
    assert list(found.values) == list(QUANTITIES)
    for name, measurement in found.values.items():
        if measurement.value is None:
            assert measurement.reason in REASONS, name
        else:
            assert math.isfinite(measurement.value), name
            assert measurement.value >= 0, name
    for segment in segment_measurements(found):
        assert segment.length.value >= 10 * (1 if scale.pixel_size_um is None else 0.01)
        assert segment.arc_chord.value >= 1 - 1e-9


def test_a_scale_changes_units_and_values_alone():
    mask = ellipse_ring(30, 30)
    pixels, scaled = (measure_vessels(mask, scale).values for scale in (Scale(), Scale(10.0)))
    assert (pixels["faz_area"].unit, scaled["faz_area"].unit) == ("px²", "mm²")
    assert scaled["faz_area"].value == pytest.approx(pixels["faz_area"].value * 1e-4)
    assert (scaled["calibre_mean"].value, scaled["calibre_mean"].unit) == (
        pytest.approx(pixels["calibre_mean"].value * 10),
        "µm",
    )
    assert scaled["skeleton_length_density"].value == pytest.approx(pixels["skeleton_length_density"].value * 100)
    assert scaled["faz_circularity"] == pixels["faz_circularity"]
    assert scaled["vessel_area_density"] == pixels["vessel_area_density"]
    assert pixels["etdrs_centre"].reason == "no_scale"
    assert scaled["etdrs_centre"].value == pytest.approx(ring_share_within(mask, 50))


def ring_share_within(mask, radius):
    down, right = np.mgrid[: mask.shape[0], : mask.shape[1]] - 99.5
    inside = np.hypot(down, right) < radius
    return mask[inside].mean()


def test_densities_are_over_the_whole_picture():
    values = measure_vessels(exact_bar(3), Scale()).values
    assert values["vessel_area_density"].value == 3 * 140 / 200**2
    assert values["skeleton_length_density"].value == pytest.approx(values["skeleton_length"].value / 200**2)
    assert (values["branch_points"].value, values["end_points"].value) == (0, 2)
    assert values["end_point_density"].value == 2 / 200**2


def test_one_class_of_several_is_measured():
    mask = np.where(exact_bar(3), 1, 0).astype(np.uint8)
    mask[20:29, 20:180] = 2
    artery, vein = (measure(mask, 3, MeasureOptions(vessel_class=number)).values for number in (1, 2))
    assert (artery["calibre_median"].value, vein["calibre_median"].value) == (3, 9)


def test_a_class_that_the_model_does_not_have_is_not_measured():
    found = measure(exact_bar(3).astype(np.uint8), 2, MeasureOptions(vessel_class=2))
    assert {(value.value, value.reason) for value in found.values.values()} == {(None, "no_such_class")}
    assert segment_measurements(found) == []


def test_each_segment_is_told_with_its_ends_and_units():
    [segment] = segment_measurements(measure_vessels(exact_bar(1), Scale(10.0)))
    assert {segment.start, segment.end} == {(100.0, 30.0), (100.0, 169.0)}
    assert (segment.length.value, segment.length.unit) == (pytest.approx(1.39), "mm")
    assert (segment.arc_chord.value, segment.curvature.unit, segment.density.value) == (pytest.approx(1), "1/mm", 0)


@pytest.mark.parametrize(("value", "reason"), [(None, None), (1.0, "no_vessel"), (None, "because"), (math.nan, None)])
def test_a_measurement_is_a_finite_number_or_a_known_reason(value, reason):
    with pytest.raises(ValueError, match="reason"):
        Measurement(value, "1", reason)


def test_a_reason_is_shown_in_the_language_asked_for():
    missing = Measurement(None, "mm²", "no_vessel")
    assert shown(missing, "en") == {"value": None, "unit": "mm²", "reason": "The mask has no vessel pixel."}
    assert shown(missing, "zh")["reason"] == "掩码中没有血管像素。"
    assert shown(Measurement(0.5, "1"), "en") == {"value": 0.5, "unit": "1", "reason": None}
