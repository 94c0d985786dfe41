from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.retinal_zones import ETDRS_NAMES, QUADRANT_NAMES, zone_densities

SIDE, UM = 305, 20.0  # 6.1 mm a side
CENTRE = (152.0, 152.0)


def values(mask, centre=CENTRE, pixel_size_um=UM):
    return {name: found.value for name, found in zone_densities(mask, centre, pixel_size_um).items()}


def test_every_zone_is_there_under_its_name():
    assert set(values(np.zeros((SIDE, SIDE), bool))) == {*ETDRS_NAMES, *QUADRANT_NAMES}
    assert len(ETDRS_NAMES) == 11


def test_a_disc_of_half_a_millimetre_fills_the_centre_alone():
    down, right = np.mgrid[:SIDE, :SIDE] - 152.0
    found = values(np.hypot(down, right) < 25)
    assert found["etdrs_centre"] == 1.0
    assert all(found[name] == 0.0 for name in ETDRS_NAMES if name != "etdrs_centre")


@pytest.mark.parametrize("side", ["superior", "inferior", "left", "right"])
def test_a_quadrant_is_named_by_its_side_of_the_picture(side):
    down, right = np.mgrid[:SIDE, :SIDE] - 152.0
    wedge = {
        "superior": down < -np.abs(right),
        "inferior": down > np.abs(right),
        "left": right < -np.abs(down),
        "right": right > np.abs(down),
    }
    found = values(wedge[side])
    for place in ("quadrant", "etdrs_inner", "etdrs_outer"):
        assert found[f"{place}_{side}"] == pytest.approx(1.0, abs=0.03)  # the diagonals belong above and below
    assert found["etdrs_inner"] == pytest.approx(0.25, abs=0.01)
    assert sum(found[name] for name in QUADRANT_NAMES) == pytest.approx(1.0, abs=0.03)


def test_rings_need_a_scale_and_quadrants_do_not():
    found = zone_densities(np.ones((60, 60), bool), (30.0, 30.0), None)
    assert {found[name].reason for name in ETDRS_NAMES} == {"no_scale"}
    assert [found[name].value for name in QUADRANT_NAMES] == [1.0] * 4


def test_a_zone_of_which_too_much_lies_outside_has_no_density():
    found = zone_densities(np.ones((300, 300), bool), (149.5, 149.5), 10.0)  # 3 mm a side
    assert found["etdrs_inner"].value == 1.0
    assert {found[name].reason for name in ETDRS_NAMES if "outer" in name} == {"zone_outside"}
    shifted = zone_densities(np.ones((300, 300), bool), (80.0, 149.5), 10.0)
    assert shifted["etdrs_inner_superior"].reason == "zone_outside"
    assert shifted["etdrs_inner_inferior"].value == 1.0
