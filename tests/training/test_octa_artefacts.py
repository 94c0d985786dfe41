from __future__ import annotations

import pytest
import torch

from octa_backend.training.augmentation_options import NONE
from octa_backend.training.octa_artefacts import Motion, along_rows, cast_shadows, draw_lines, draw_motion, saturate
from tests.training.augmented import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def only(**numbers):
    return NONE.model_copy(update=numbers)


# --- motion ---------------------------------------------------------------------------------------------------------


def test_motion_shifts_what_lies_behind_a_line_and_nothing_before_the_first():
    options = only(motion_probability=1.0, motion_lines=1, motion_shift=5.0, motion_brightness=1.0)
    motion = draw_motion(100, 40, options, generator())
    for shift, light in zip(motion.shift, motion.light, strict=True):
        (start,) = {int((values != 0).nonzero()[0]) for values in (shift, light)}
        assert (shift[:start] == 0).all()
        assert (shift[start:] == shift[start]).all()
        assert 1 <= (light != 0).sum() <= 3
    assert 4.5 < motion.shift.abs().max() <= 5
    assert 0.9 < motion.light.max() <= 1


def test_there_are_at_most_so_many_lines():
    motion = draw_motion(200, 1000, only(motion_probability=1.0, motion_lines=6), generator())
    parts = [len(shift.unique_consecutive()) - 1 for shift in motion.shift]
    assert max(parts) == 6
    assert min(parts) == 1


def test_without_motion_nothing_is_drawn():
    assert draw_motion(9, 20, NONE, generator()) is None


@pytest.mark.parametrize("spatial", [(3, 5), (3, 4, 5)])
def test_shifts_run_along_the_rows_and_change_along_the_slow_scan(spatial):
    motion = Motion(torch.tensor([[0.0, 1.5, -2.0]]), torch.zeros(1, 3))
    found = along_rows(motion, spatial, torch.device("cpu"))
    assert found.shape == (1, *spatial, len(spatial))
    for row, shift in enumerate((0.0, 1.5, -2.0)):
        assert (found[0, row, ..., 0] == shift).all()
    assert (found[..., 1:] == 0).all()


@pytest.mark.parametrize("spatial", [(3, 50), (3, 4, 50)])
def test_lines_bring_their_rows_nearer_to_white_and_leave_the_others(spatial):
    image = torch.full((2, 1, *spatial), 0.2)
    motion = Motion(torch.zeros(2, 3), torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]))
    found = draw_lines(image, motion, generator())
    assert (found[1] == 0.2).all()
    assert (found[0, 0, (0, 2), ...] == 0.2).all()
    line = found[0, 0, 1]
    # 0.2 + 0.5 · (0.5 … 1) · 0.8
    assert 0.4 <= line.min() < 0.45
    assert 0.55 < line.max() <= 0.6


def test_mask_moves_with_the_rows():
    mask = torch.zeros(16, 32, 32, dtype=torch.int64)
    mask[:, :, 12:20] = 1
    image = 0.2 + 0.6 * mask.float()[:, None]
    options = only(motion_probability=1.0, motion_shift=8.0, motion_brightness=0.0)
    found, moved = augment(image, mask, generator(), options)
    assert (moved != mask).any()
    assert ((found[:, 0] > 0.5) != (moved > 0)).float().mean() < 0.02


# --- shadows and saturation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(48, 40), (12, 20, 16)])
def test_shadows_only_darken_and_leave_part_of_the_scan_bright(spatial):
    image = torch.full((20, 2, *spatial), 0.8)
    found = cast_shadows(image, only(shadow_probability=1.0), generator())
    left = found / image
    assert left.max() <= 1
    assert left.min() >= (1 - 0.7) ** 2
    assert (left.flatten(1).amin(1) < 0.97).all()
    assert (left.flatten(1).amax(1) > 0.95).all()
    torch.testing.assert_close(found[:, 0], found[:, 1])


def test_shadow_has_soft_edges():
    found = cast_shadows(torch.ones(20, 1, 64, 64), only(shadow_probability=1.0, shadow_radius=0.5), generator())
    assert max(found.diff(dim=axis).abs().max() for axis in (2, 3)) < 0.3


def test_saturation_multiplies_and_cuts_off():
    image = torch.tensor([0.1, 0.4, 0.9]).view(1, 1, 1, 3).expand(300, -1, -1, -1)
    found = saturate(image, only(saturation_probability=1.0, saturation_gain=3.0), generator())
    gain = found[:, 0, 0, 0] / 0.1
    assert 1 <= gain.min() < 1.05
    assert 2.9 < gain.max() <= 3
    torch.testing.assert_close(found[:, 0, 0, 1], (0.4 * gain).clamp(max=1))
    assert found.max() == 1
