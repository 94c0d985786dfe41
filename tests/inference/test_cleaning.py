from __future__ import annotations

import numpy as np
import pytest

from octa_backend.errors import InvalidOptions, InvalidScale
from octa_backend.inference.clean_options import CleanOptions
from octa_backend.inference.cleaning import clean
from octa_backend.inference.scale import MeasureOptions


def mask(*rows):
    return np.array([[int(value) for value in row] for row in rows], np.uint8)


def shown(found):
    return ["".join(map(str, row)) for row in found.mask.tolist()]


def test_objects_below_the_limit_are_removed_and_touch_at_corners_too():
    before = mask("110001", "000010", "100000", "000000")
    found = clean(before, 2, 0)
    assert shown(found) == ["110001", "000010", "000000", "000000"]
    assert (found.objects_removed, found.holes_filled) == (1, 0)
    assert clean(before, 3, 0).objects_removed == 3
    assert before[2, 0] == 1


def test_holes_up_to_the_limit_are_filled_but_not_what_touches_the_border():
    before = mask("1111110", "1011010", "1111010", "0001110", "0001110")
    assert shown(clean(before, 0, 1)) == ["1111110", "1111010", "1111010", "0001110", "0001110"]
    found = clean(before, 0, 2)
    assert (shown(found)[1], shown(found)[2], found.holes_filled) == ("1111110", "1111110", 2)
    assert shown(clean(before, 0, 100))[3] == "0001110"


def test_background_that_touches_a_hole_at_a_corner_is_not_part_of_it():
    assert shown(clean(mask("0110", "1011", "1111"), 0, 1)) == ["0110", "1111", "1111"]


def test_a_speck_inside_a_hole_goes_first_and_the_hole_is_filled_whole():
    found = clean(mask("11111", "10001", "10101", "10001", "11111"), 2, 9)
    assert (found.objects_removed, found.holes_filled) == (1, 1)
    assert found.mask.all()


def test_classes_are_tidied_up_one_by_one_and_fill_nothing_of_each_other():
    before = mask("1110222", "1210202", "1110222", "0000000", "1112000")
    found = clean(before, 0, 5)
    assert shown(found) == ["1110222", "1210222", "1110222", "0000000", "1112000"]
    assert found.holes_filled == 1
    found = clean(before, 2, 1)
    assert shown(found) == ["1110222", "1110222", "1110222", "0000000", "1110000"]
    assert (found.objects_removed, found.holes_filled) == (2, 2)


def test_an_empty_and_a_full_mask_stay():
    for value in (0, 1):
        before = np.full((4, 5), value, np.uint8)
        found = clean(before, 3, 30)
        assert (found.mask.tolist(), found.objects_removed, found.holes_filled) == (before.tolist(), 0, 0)


def test_areas_become_pixels():
    assert CleanOptions(min_object_px=5).limits(300) == (5, 0)
    sized = CleanOptions(min_object_um2=200, max_hole_um2=50, sizes=MeasureOptions(pixel_size_um=10))
    assert sized.limits(300) == (2, 0.5)
    assert CleanOptions(max_hole_um2=400, sizes=MeasureOptions(field_of_view_mm=3)).limits(300) == (0, 4)
    assert not CleanOptions().asks_for_something


@pytest.mark.parametrize("name", ["min_object", "max_hole"])
def test_a_limit_in_two_units_or_without_a_scale_or_of_no_size_is_refused(name):
    sizes = MeasureOptions(pixel_size_um=10)
    with pytest.raises(InvalidOptions, match=f"{name}_px and {name}_um2 are the same limit"):
        CleanOptions(**{f"{name}_px": 3, f"{name}_um2": 3.0, "sizes": sizes})
    with pytest.raises(InvalidScale, match=f"{name}_um2: .* send pixel_size_um or field_of_view_mm too, or {name}_px"):
        CleanOptions(**{f"{name}_um2": 3.0})
    with pytest.raises(InvalidOptions, match="above 0"):
        CleanOptions(**{f"{name}_px": 0})
