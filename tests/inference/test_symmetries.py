from __future__ import annotations

import pytest
import torch

from octa_backend.inference.symmetries import SYMMETRIES, symmetries_for
from octa_backend.training.mask_offset import MaskOffset

PICTURE = torch.arange(6).reshape(1, 1, 2, 3)


def test_there_are_eight_different_ones_of_which_one_changes_nothing():
    assert (
        len({tuple(symmetry.apply(torch.arange(4).reshape(2, 2)).flatten().tolist()) for symmetry in SYMMETRIES}) == 8
    )
    assert torch.equal(SYMMETRIES[0].apply(PICTURE), PICTURE)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_each_one_is_undone(symmetry):
    laid = symmetry.apply(PICTURE)
    assert laid.shape[2:] == ((3, 2) if symmetry.quarter_turns % 2 else (2, 3))
    assert torch.equal(symmetry.undo(laid), PICTURE)


def card_of(rows=0.0, columns=0.0):
    offset = MaskOffset(rows=rows, columns=columns, rows_spread=0.01, columns_spread=0.01, scans=20)
    return {"plan": {"fingerprint": {"mask_offset": offset.model_dump(mode="json")}}}


@pytest.mark.parametrize(
    "card", [{}, {"plan": {}}, {"plan": {"fingerprint": None}}, {"plan": {"fingerprint": {"scans": 3}}}, card_of()]
)
def test_a_model_whose_masks_lie_right_is_seen_from_all_sides(card):
    assert symmetries_for(card) == SYMMETRIES


@pytest.mark.parametrize(
    ("rows", "columns", "kept"), [(0, 0.1, [[4, 5, 6], [1, 2, 3]]), (-0.1, 0, [[3, 2, 1], [6, 5, 4]])]
)
def test_only_views_in_which_masks_stay_on_their_side_are_left(rows, columns, kept):
    """Masks to the right are so from top to bottom, too; masks above are above in a mirror."""
    picture = torch.tensor([[1, 2, 3], [4, 5, 6]])
    as_it_lies, mirrored = symmetries_for(card_of(rows, columns))
    assert torch.equal(as_it_lies.apply(picture), picture)
    assert mirrored.apply(picture).tolist() == kept


def test_masks_that_lie_beside_along_both_axes_leave_one_view():
    assert symmetries_for(card_of(0.1, 0.1)) == SYMMETRIES[:1]
