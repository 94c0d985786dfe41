from __future__ import annotations

import pytest

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import make_plan
from octa_backend.training.precision import Hardware

SLOW = Hardware("cpu", bf16_speedup=0.4, channels_last=False)
GPU = Hardware("cuda:0", bf16_speedup=2.0, channels_last=True)


def plan(*shapes, hardware=SLOW, fraction=0.1, **options):
    entries = tuple(ScanEntry(f"s{i}", None, None, shape, "uint8", 0, 0) for i, shape in enumerate(shapes))
    manifest = Manifest(len(shapes[0]), 1, 2, (0, 1), fraction, entries)
    return make_plan(TrainConfig(**options), manifest, hardware)


def reasons(found, field):
    return [reason.reason for reason in found.reasons if reason.field == field]


@pytest.mark.parametrize(("hardware", "side"), [(SLOW, 64), (GPU, 128)])
def test_patches_of_volumes_are_smaller_than_those_of_scans(hardware, side):
    found = plan((200, 200, 200), hardware=hardware)
    assert found.patch_shape == found.config.target_shape == (side,) * 3
    assert found.config.patch_size == side
    assert "200x200x200" in reasons(found, "target_shape")[0]


@pytest.mark.parametrize(
    ("shapes", "patch_size", "expected"),
    [
        ([(35, 51, 35)], 64, (40, 56, 40)),
        ([(20, 100, 100), (40, 90, 130)], 64, (40, 64, 64)),
        ([(16, 16, 16)], 64, (16, 16, 16)),
    ],
)
def test_patch_is_as_large_as_the_largest_volume_up_to_the_patch_size(shapes, patch_size, expected):
    assert plan(*shapes, patch_size=patch_size).patch_shape == expected


def test_large_volumes_give_several_patches():
    found = plan((128, 128, 128), patch_size=64)
    assert found.patches_per_scan == 2  # 8 patches' volume, each stands for 4
    assert reasons(found, "patches_per_scan") == ["patches of 64x64x64 cut from each scan per epoch"]


def test_oversampling_that_was_asked_for_but_has_no_effect_is_named():
    assert "no scan is larger" in reasons(plan((64, 64), foreground_oversampling=0.5), "foreground_oversampling")[0]
    assert not reasons(plan((64, 64), patch_size=48, foreground_oversampling=0.5), "foreground_oversampling")


@pytest.mark.parametrize(
    ("fraction", "patch_size", "share", "reason"),
    [
        (0.107, 48, 0.0, "10.7% of the pixels are foreground, so patches cut anywhere show enough of it"),
        (0.049, 48, 0.33, "only 4.9% of the pixels are foreground, so many patches would show none"),
        (0.049, 64, 0.0, "no scan is larger than a patch"),
    ],
)
def test_patches_are_cut_around_foreground_only_where_it_is_scarce(fraction, patch_size, share, reason):
    found = plan((64, 64), fraction=fraction, patch_size=patch_size)
    assert found.config.foreground_oversampling == share
    assert reasons(found, "foreground_oversampling") == [reason]


def test_mirrored_slices_of_scans_without_slices_are_named():
    overrides = {"flip_z_probability": 1.0}
    assert "no slices" in reasons(plan((64, 64), augmentation_overrides=overrides), "augmentation_overrides")[0]
    assert not reasons(plan((32, 64, 64), augmentation_overrides=overrides), "augmentation_overrides")
