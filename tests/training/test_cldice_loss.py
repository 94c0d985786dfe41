from __future__ import annotations

import pytest
import torch

from octa_backend.training.cldice_loss import cldice_loss
from octa_backend.training.comparison import compare


def picture(*rows):
    """Rows of `.` and `#` as one map, (1, 1, H, W)."""
    return torch.tensor([[[[float(c == "#") for c in row] for row in rows]]])


def sure(mask_BHW):
    """Logits of a network that gives just this mask."""
    return torch.where(mask_BHW > 0, 50.0, -50.0)[:, None]


LINE = picture(".....", ".....", "#####", ".....", ".....")[:, 0]


def test_same_line_costs_nothing():
    assert cldice_loss(compare(sure(LINE), LINE), 3).item() == pytest.approx(0, abs=1e-6)


def test_half_a_line_by_hand():
    half = LINE.clone()
    half[..., 3:] = 0
    # its 3 pixels lie in the mask: (3 + 1) / (3 + 1); 3 of 5 pixels are found: (3 + 1) / (5 + 1)
    expected = 2 * 1 * (2 / 3) / (1 + 2 / 3)
    assert cldice_loss(compare(sure(half), LINE), 3).item() == pytest.approx(1 - expected)


def test_line_elsewhere_by_hand():
    # no pixel of 5 in the other's line: (0 + 1) / (5 + 1) both ways
    assert cldice_loss(compare(sure(LINE.roll(-2, 1)), LINE), 3).item() == pytest.approx(1 - 1 / 6)


def test_width_does_not_matter_where_the_centre_line_is_right():
    mask = torch.zeros(1, 7, 9)
    mask[:, 2:5] = 1
    thin = torch.zeros_like(mask)
    thin[:, 3] = 1
    assert cldice_loss(compare(sure(thin), mask), 3).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("iterations", [1, 10])
def test_centre_line_of_a_bar_is_its_middle_and_of_half_certainty_half_as_high(iterations):
    bar = picture(".......", ".#####.", ".#####.", ".#####.", ".......")[:, 0]
    halfway = torch.where(bar > 0, 0.0, -50.0)[:, None]
    # the middle has 3 pixels. Predicted ones of 1/2 lie in the mask: (1.5 + 1) / (1.5 + 1); those of the mask are
    # predicted by half: (1.5 + 1) / (3 + 1)
    found = cldice_loss(compare(halfway, bar), iterations).item()
    assert found == pytest.approx(1 - 2 * 1 * 0.625 / (1 + 0.625))


def test_middle_of_a_bar_is_found_by_its_middle_alone():
    bar = picture(".......", ".#####.", ".#####.", ".#####.", ".......")[:, 0]
    middle = picture(".......", ".......", "..###..", ".......", ".......")[:, 0]
    around = bar - middle
    # 3 of 3 pixels of the bar's line are found, none of which lies outside
    assert cldice_loss(compare(sure(middle), bar), 1).item() == pytest.approx(0, abs=1e-6)
    # no pixel of the bar's line is in what surrounds it: S = (0 + 1) / (3 + 1), P = 1
    assert cldice_loss(compare(sure(around), bar), 1).item() == pytest.approx(1 - 2 * 0.25 / (1 + 0.25))


def test_what_is_too_thick_for_the_iterations_has_no_centre_line():
    mask = torch.zeros(1, 7, 7)
    mask[:, 1:6, 1:6] = 1
    middle = torch.zeros_like(mask)
    middle[:, 3, 3] = 1
    # the middle's own line lies in the mask; that of the mask is empty after one erosion, one pixel after two
    nowhere = compare(sure(torch.zeros_like(mask)), mask)
    assert cldice_loss(nowhere, 1).item() == pytest.approx(0, abs=1e-6)
    assert cldice_loss(nowhere, 2).item() == pytest.approx(1 - 2 * 0.5 / (1 + 0.5))
    assert cldice_loss(compare(sure(middle), mask), 2).item() == pytest.approx(0, abs=1e-6)


def test_centre_line_of_a_volume_by_hand():
    beam = torch.zeros(1, 5, 5, 7)
    beam[:, 1:4, 1:4, 1:6] = 1
    # its axis has 3 voxels, none of which is found: (0 + 1) / (3 + 1)
    found = cldice_loss(compare(sure(torch.zeros_like(beam)), beam), 1).item()
    assert found == pytest.approx(1 - 2 * 0.25 / (1 + 0.25))


def test_false_vessels_in_an_empty_scan_cost():
    # 5 false pixels: precision (0 + 1) / (5 + 1), sensitivity of an empty line 1
    found = cldice_loss(compare(sure(LINE), torch.zeros_like(LINE)), 3).item()
    assert found == pytest.approx(1 - 2 * (1 / 6) / (1 / 6 + 1))


def test_loss_of_several_classes_is_the_mean_over_the_foreground():
    mask = torch.zeros(1, 5, 5).long()
    mask[:, 1], mask[:, 3] = 1, 2
    without_2 = mask.where(mask == 1, 0)
    logits = 100.0 * torch.nn.functional.one_hot(without_2, 3).movedim(-1, 1)
    # class 1 is right; of class 2 no pixel is found: sensitivity (0 + 1) / (5 + 1), precision of an empty line 1
    expected = (0 + 1 - 2 * (1 / 6) / (1 / 6 + 1)) / 2
    assert cldice_loss(compare(logits, mask), 3).item() == pytest.approx(expected, abs=1e-6)
