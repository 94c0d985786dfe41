from __future__ import annotations

import pytest
import torch

from octa_backend.training.augmentation import augment as augment_with_planes
from octa_backend.training.augmentation_options import NONE, PRESETS, STANDARD
from tests.training.augmented import augment

COPIES = 32


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(mask_HW, copies=COPIES):
    """A batch whose grey image is its mask: 0.3 for background, 0.7 for foreground, so that nothing is clamped."""
    mask_BHW = mask_HW.expand(copies, -1, -1)
    return 0.3 + 0.4 * (mask_BHW > 0).float().unsqueeze(1), mask_BHW


def blot(height, width):
    """A rectangle off the centre."""
    mask = torch.zeros(height, width, dtype=torch.int64)
    mask[height // 4 : height // 4 + height // 3, width // 5 : width // 2] = 1
    return mask


@pytest.mark.parametrize(("height", "width"), [(48, 48), (32, 64), (64, 40)])
def test_mask_goes_wherever_its_image_goes(height, width):
    image, mask = augment(*batch_of(blot(height, width)), generator())
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    seen = (image > (low + high) / 2).squeeze(1)
    disagree = (seen != (mask > 0)).float().mean((1, 2))
    assert disagree.max() < 0.01  # a shift by one pixel is already 2 %
    assert len({tuple(m.flatten().tolist()) for m in mask}) > COPIES // 4


def test_same_generator_state_gives_the_same_batch():
    image, mask = torch.rand(4, 3, 32, 32), torch.randint(3, (4, 32, 32))
    first, again, other = (augment(image, mask, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_global_random_state_plays_no_part():
    image, mask = torch.rand(2, 1, 32, 32), torch.randint(2, (2, 32, 32))
    torch.manual_seed(1)
    first = augment(image, mask, generator())
    torch.manual_seed(2)
    assert torch.equal(first[0], augment(image, mask, generator())[0])


def test_no_class_is_invented_between_two_others():
    mask = torch.zeros(COPIES, 32, 32, dtype=torch.int64)
    mask[:, :, 16:] = 7
    _, augmented = augment(torch.rand(COPIES, 1, 32, 32), mask, generator())
    assert set(augmented.unique().tolist()) == {0, 7}


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (1, 3, 32, 80), (3, 3, 48, 16)])
def test_shape_and_type_stay(shape):
    mask = torch.randint(2, (shape[0], *shape[2:]))
    image, augmented = augment(torch.rand(shape), mask, generator())
    assert (image.shape, image.dtype) == (shape, torch.float32)
    assert (augmented.shape, augmented.dtype) == (mask.shape, torch.int64)


def test_values_stay_in_0_to_1():
    image = torch.randint(2, (COPIES, 1, 32, 32)).float()
    augmented, _ = augment(image, torch.zeros(COPIES, 32, 32, dtype=torch.int64), generator())
    assert augmented.min() >= 0
    assert augmented.max() <= 1


def test_the_batch_given_is_left_as_it_was():
    image, mask = torch.rand(2, 1, 32, 32), torch.randint(2, (2, 32, 32))
    image_before, mask_before = image.clone(), mask.clone()
    augment(image, mask, generator())
    assert torch.equal(image, image_before)
    assert torch.equal(mask, mask_before)


def lies_flat(mask_BHW):
    """Which masks extend further along the columns than along the rows."""
    heights = mask_BHW.any(2).sum(1)
    widths = mask_BHW.any(1).sum(1)
    return widths > heights


def bar(height, width):
    mask = torch.zeros(height, width, dtype=torch.int64)
    mask[height // 2 - 1 : height // 2 + 1, width // 2 - 12 : width // 2 + 12] = 1
    return mask


def test_square_scans_are_turned_by_right_angles():
    _, mask = augment(*batch_of(bar(48, 48)), generator())
    assert 0 < lies_flat(mask).sum() < COPIES


@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32)])
def test_other_scans_are_never_turned_by_90_degrees(height, width):
    _, mask = augment(*batch_of(bar(height, width)), generator())
    assert lies_flat(mask).all()


def test_other_scans_are_turned_upside_down():
    mask = torch.zeros(32, 64, dtype=torch.int64)
    mask[:8] = 1
    _, turned = augment(*batch_of(mask), generator())
    on_top = turned[:, :4, 32].sum(1) > turned[:, -4:, 32].sum(1)
    assert 0 < on_top.sum() < COPIES


def test_what_lies_outside_is_mirrored_in_not_made_black():
    image, _ = augment(torch.full((COPIES, 1, 32, 32), 0.5), torch.ones(COPIES, 32, 32).long(), generator())
    torch.testing.assert_close(image, image[..., :1, :1].expand_as(image))
    assert image.min() >= 0.4 - 1e-6
    assert image.max() <= 0.6 + 1e-6


@pytest.mark.parametrize(("height", "width"), [(40, 40), (32, 56)])
def test_nothing_is_stretched_or_sheared(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = torch.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    _, mask = augment(*batch_of((distance < 12).long()), generator())
    for disc in mask.bool():
        assert distance[disc].max() - distance[~disc].min() < 2
        assert 12 / 1.1 - 1 < distance[disc].max() < 12 * 1.1 + 1


# --- every preset, scans and volumes --------------------------------------------------------------------------------

SPATIAL = [(32, 32), (24, 40), (12, 32, 32), (16, 24, 20)]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("spatial", SPATIAL)
def test_every_preset_keeps_shape_type_range_and_classes(preset, spatial):
    mask = torch.randint(3, (4, *spatial)) * 2
    image, augmented = augment(torch.rand(4, 2, *spatial), mask, generator(), PRESETS[preset])
    assert (image.shape, image.dtype) == ((4, 2, *spatial), torch.float32)
    assert image.min() >= 0
    assert image.max() <= 1
    assert (augmented.shape, augmented.dtype) == (mask.shape, torch.int64)
    assert set(augmented.unique().tolist()) <= {0, 2, 4}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_the_same_batch_for_the_same_state(preset):
    image, mask = torch.rand(4, 1, 32, 32), torch.randint(2, (4, 32, 32))
    first, again = (augment(image, mask, generator(5), PRESETS[preset]) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


SPATIAL_ONLY = {
    "flip_x_probability": 0.5,
    "flip_y_probability": 0.5,
    "flip_z_probability": 0.5,
    "turn_probability": 0.5,
    "rotation_probability": 0.5,
    "scale_probability": 0.5,
    "translation_probability": 0.5,
    "elastic_probability": 0.5,
    "motion_probability": 0.5,
    "motion_brightness": 0.0,
}


@pytest.mark.parametrize("spatial", [(64, 64), (48, 72), (24, 48, 48)])
def test_mask_goes_wherever_its_image_goes_through_everything_spatial_at_once(spatial):
    mask = torch.zeros(16, *spatial, dtype=torch.int64)
    middle = tuple(slice(side // 4, side // 2) for side in spatial)
    mask[:, *middle] = 1
    image, moved = augment(mask.float().unsqueeze(1), mask, generator(), NONE.model_copy(update=SPATIAL_ONLY))
    disagree = ((image[:, 0] > 0.5) != (moved > 0)).float().flatten(1).mean(1)
    assert disagree.max() < 0.02
    assert len({tuple(m.flatten().tolist()) for m in moved}) > 8


def test_volumes_are_mirrored_along_every_axis_and_turned_within_their_slices():
    mask = torch.zeros(6, 8, 8, dtype=torch.int64)
    mask[:2, :3, :4] = 1
    image = mask.float().expand(200, 1, -1, -1, -1)
    _, found = augment(image, mask.expand(200, -1, -1, -1), generator(), PRESETS["light"])
    # of the cube's turns and mirrors those that keep the slices: 8 within a slice, 2 along them
    assert len({tuple(m.flatten().tolist()) for m in found}) == 16
    assert {tuple(int(n) for n in m.sum((1, 2)).bool().nonzero().flatten()) for m in found} == {(0, 1), (4, 5)}


# --- planes that go along -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(32, 32), (12, 24, 24)])
def test_planes_go_where_the_image_goes_and_keep_their_values(spatial):
    image = torch.rand(4, 1, *spatial)
    mask = torch.zeros(4, *spatial, dtype=torch.int64)
    planes = torch.cat([5 * image, -image], dim=1)
    options = NONE.model_copy(update=SPATIAL_ONLY)
    found = augment_with_planes(image, mask, planes, generator(), options)
    torch.testing.assert_close(found.planes, torch.cat([5 * found.image, -found.image], dim=1))


def test_planes_change_neither_image_nor_mask():
    image, mask = torch.rand(4, 1, 32, 32), torch.randint(2, (4, 32, 32))
    alone = augment(image, mask, generator(), PRESETS["strong"])
    found = augment_with_planes(image, mask, torch.rand(4, 3, 32, 32), generator(), PRESETS["strong"])
    assert torch.equal(found.image, alone[0])
    assert torch.equal(found.mask, alone[1])
    assert found.planes.shape == (4, 3, 32, 32)
    assert augment_with_planes(image, mask, None, generator(), STANDARD).planes is None


def test_planes_of_another_size_are_refused():
    with pytest.raises(ValueError, match="planes are"):
        augment_with_planes(
            torch.rand(1, 1, 8, 8), torch.zeros(1, 8, 8).long(), torch.rand(1, 1, 8, 9), generator(), NONE
        )
