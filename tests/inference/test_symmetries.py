from __future__ import annotations

import pytest
import torch

from octa_backend.inference.symmetries import SYMMETRIES

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
