from __future__ import annotations

import pytest

from octa_backend.errors import InvalidScale
from octa_backend.inference.scale import MeasureOptions, Quantity, Scale


@pytest.mark.parametrize(
    ("quantity", "unit", "value"),
    [
        (Quantity.RATIO, "1", 8.0),
        (Quantity.CALIBRE, "µm", 80.0),
        (Quantity.LENGTH, "mm", 0.08),
        (Quantity.AREA, "mm²", 0.0008),
        (Quantity.PER_LENGTH, "1/mm", 800.0),
        (Quantity.PER_AREA, "1/mm²", 80000.0),
    ],
)
def test_eight_in_pixels_of_ten_micrometres(quantity, unit, value):
    assert (Scale(10.0).value(8, quantity), Scale(10.0).unit(quantity)) == (pytest.approx(value), unit)


def test_without_a_scale_pixels_are_the_unit():
    assert [Scale().unit(quantity) for quantity in Quantity] == ["1", "px", "px", "px²", "1/px", "1/px²"]
    assert [Scale().value(8, quantity) for quantity in Quantity] == [8.0] * 6


def test_a_field_of_view_is_the_width_of_the_scan():
    assert MeasureOptions(field_of_view_mm=3.0).scale(300) == Scale(10.0)
    assert MeasureOptions(pixel_size_um=10.0).scale(300) == Scale(10.0)
    assert MeasureOptions().scale(300) == Scale(None)


def test_two_sizes_of_a_pixel_are_refused():
    with pytest.raises(InvalidScale, match="send one of them"):
        MeasureOptions(pixel_size_um=10.0, field_of_view_mm=3.0)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e-5, 1001.0])
@pytest.mark.parametrize("name", ["pixel_size_um", "field_of_view_mm"])
def test_what_is_no_size_is_refused(name, size):
    with pytest.raises(InvalidScale, match=f"{name}=.* is no size"):
        MeasureOptions(**{name: size})
