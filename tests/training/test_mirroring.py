from __future__ import annotations

import pytest

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.training.config import TrainConfig
from octa_backend.training.healing import remedy_taken, treated
from octa_backend.training.mask_offset import MaskOffset
from octa_backend.training.mirroring import in_words, without_mirroring
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware

CPU = Hardware("cpu", bf16_speedup=0.0, channels_last=False)
MANIFEST = Manifest(
    2, 1, 2, (0, 1), 0.1, tuple(ScanEntry(f"s{i}", None, None, (64, 64), "uint8", 0, 0) for i in range(60))
)

RIGHT = MaskOffset(rows=0, columns=0.09, rows_spread=0.02, columns_spread=0.01, scans=20)
BELOW = MaskOffset(rows=0.2, columns=0, rows_spread=0.02, columns_spread=0.01, scans=20)
BOTH = MaskOffset(rows=-0.2, columns=-0.09, rows_spread=0.02, columns_spread=0.01, scans=20)
NOWHERE = MaskOffset(rows=0.02, columns=0.09, rows_spread=0.02, columns_spread=0.1, scans=20)


def left_out(offset, **options):
    """The numbers of augmentation that mirror scans, of a config for masks that lie so."""
    config = TrainConfig(**options)
    overrides = without_mirroring(config, offset)
    found = config.model_copy(update={"augmentation_overrides": overrides}) if overrides else config
    numbers = found.augmentation_options
    return numbers.flip_x_probability, numbers.flip_y_probability, numbers.turn_probability


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (None, (0.5, 0, 1)),
        (NOWHERE, (0.5, 0, 1)),
        (RIGHT, (0, 0.5, 0)),
        (BELOW, (0.5, 0, 0)),
        (BOTH, (0, 0, 0)),
    ],
)
def test_only_flips_that_keep_masks_on_their_side_are_left(offset, expected):
    assert left_out(offset) == expected


def test_what_is_not_augmented_stays_so():
    assert left_out(RIGHT, augmentation="none") == (0, 0, 0)
    assert without_mirroring(TrainConfig(augmentation="none"), RIGHT) is None


def test_numbers_of_the_user_stay():
    own = {"flip_x_probability": 0.5, "turn_probability": 1.0, "flip_y_probability": 0.0, "rotation_degrees": 3.0}
    assert left_out(RIGHT, augmentation_overrides=own) == (0.5, 0, 1)
    assert without_mirroring(TrainConfig(augmentation_overrides=own), RIGHT) is None
    partly = without_mirroring(TrainConfig(augmentation_overrides={"rotation_degrees": 3.0}), RIGHT)
    assert partly["rotation_degrees"] == 3.0
    assert partly["flip_x_probability"] == 0


def plan_for(offset, **options):
    return make_plan(TrainConfig(**options), MANIFEST, CPU, measure_offset=lambda: offset)


def test_the_plan_leaves_mirrored_scans_out_and_says_why():
    made = plan_for(RIGHT)
    (found,) = [one for one in made.reasons if one.field == "augmentation_overrides"]
    assert found.value == {"flip_x_probability": 0, "flip_y_probability": 0.5, "turn_probability": 0}
    assert found.value == made.config.augmentation_overrides
    assert found.reason == in_words(RIGHT)
    assert "0.09 pixels to the right (± 0.01 between scans), 20 scans" in found.reason


def test_both_sides_are_named():
    assert "0.09 pixels to the left (± 0.01 between scans) and 0.20 pixels above (± 0.02" in in_words(BOTH)


def test_masks_that_lie_right_change_nothing():
    made = plan_for(NOWHERE)
    assert made.config.augmentation_overrides is None
    assert made.fingerprint.mask_offset == NOWHERE
    assert made.reasons == plan_for(None).reasons


def test_volumes_are_not_measured():
    def measure():
        raise AssertionError("their masks were measured")

    entries = tuple(ScanEntry(f"s{i}", None, None, (32, 32, 32), "uint8", 0, 0) for i in range(3))
    make_plan(TrainConfig(), Manifest(3, 1, 2, (0, 1), 0.1, entries), CPU, measure_offset=measure)


def test_mirrored_scans_stay_left_out_when_a_run_goes_on():
    made = plan_for(RIGHT)
    again = Plan.model_validate(made.model_dump(mode="json")).with_config(TrainConfig())
    assert again.config == made.config
    assert again.reasons == made.reasons


def test_mirrored_scans_stay_left_out_when_a_remedy_augments_more():
    made = plan_for(RIGHT, augmentation="standard", epochs=4, batch_size=1, lr=0.001)
    stronger = Remedy("augment_more", {"augmentation": "strong", "augmentation_overrides": None}, from_checkpoint=False)
    taken = remedy_taken(made, Finding("overfitting", Severity.WARNING, {}, remedy=stronger), 1)
    options = treated(made, [taken]).config.augmentation_options
    assert (options.flip_x_probability, options.turn_probability, options.flip_y_probability) == (0, 0, 0.5)
    assert options.motion_probability > 0
