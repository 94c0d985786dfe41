from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.pairing import Fault
from octa_backend.diagnosis.dataset import examine
from octa_backend.diagnosis.findings import MAX_SCANS, Finding, Remedy, Severity
from octa_backend.diagnosis.messages_dataset import REMEDY_TITLES
from octa_backend.diagnosis.remedies import (
    CONFIG_REMEDIES,
    DATASET_REMEDIES,
    SAFE,
    SAFE_FOR_ERRORS,
    Step,
    config_changes,
    plan_repair,
)
from octa_backend.training.config import TrainConfig
from tests.diagnosis.scans import drawn, examination, image_with, mask_values, mask_with, measured, sound


def plan(scans, code, *faults):
    """Scan -> details of its step."""
    steps = plan_repair(examination(scans, *faults), [code])
    assert {step.remedy for step in steps} <= {code}
    assert len({step.scan for step in steps}) == len(steps)
    return {step.scan: dict(step.details) for step in steps}


def jpeg(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def with_mask(scans, number, change):
    image, mask = drawn(number)
    scans[number] = measured(f"s{number:02d}", image, change(mask))
    return scans


def red(mask):
    rgb = np.zeros((*mask.shape, 3), np.uint8)
    rgb[mask > 0] = (255, 0, 0)
    return rgb


# --- all of them -----------------------------------------------------------------------------------------------------


def test_sound_scans_need_no_step():
    assert plan_repair(examination(sound(6)), DATASET_REMEDIES) == ()


def test_a_code_that_is_no_remedy_of_a_dataset_is_refused():
    with pytest.raises(ValueError, match="pos_weight is no remedy of a dataset; there are drop_unusable"):
        plan_repair(examination(sound(2)), ["binarize_masks", "pos_weight"])


def test_steps_come_in_the_order_of_application_whatever_the_order_of_the_codes():
    scans = with_mask(sound(6), 1, jpeg)
    scans[2] = image_with(scans[2], alpha="varies")
    scans[3] = measured("s03", np.zeros((96, 96), np.uint8), drawn(3)[1])
    steps = plan_repair(examination(scans), DATASET_REMEDIES[::-1])
    assert [(step.remedy, step.scan) for step in steps] == [
        ("drop_unusable", "s03"),
        ("binarize_masks", "s01"),
        ("drop_alpha", "s02"),
    ]


def test_what_is_left_out_is_neither_changed_nor_compared_with():
    scans = sound(5)
    blank = np.zeros((96, 96), np.uint8)
    scans[1] = image_with(measured("s01", blank, jpeg(drawn(1)[1])), alpha="varies")
    scans[2] = image_with(scans[0], alpha="varies")
    scans[2] = replace(scans[2], name="s02")
    steps = plan_repair(examination(scans), DATASET_REMEDIES)
    assert [(step.remedy, step.scan) for step in steps] == [("drop_unusable", "s01"), ("drop_duplicates", "s02")]


def test_all_scans_concerned_have_a_step_not_only_those_that_the_finding_names():
    scans = [image_with(scan, alpha="constant") for scan in sound(MAX_SCANS + 4)]
    assert len(plan(scans, "drop_alpha")) == MAX_SCANS + 4


def test_safe_remedies_are_all_but_those_that_change_an_official_split_or_every_voxel():
    assert set(SAFE) == {*DATASET_REMEDIES, *CONFIG_REMEDIES} - {"regroup_splits", "resample_spacing"}
    assert SAFE_FOR_ERRORS == ("invert_masks",)


def test_every_remedy_has_its_title():
    assert set(REMEDY_TITLES) == {*DATASET_REMEDIES, *CONFIG_REMEDIES}


# --- what is left out ------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_left_out_by_scan_or_by_path():
    faults = [
        Fault("scan_unreadable", "images/s00.png"),
        Fault("scan_unreadable", "masks/s00.png"),
        Fault("scan_has_frames", "masks/s01.png"),
        Fault("images_without_mask", "images/lonely.png"),
        Fault("masks_without_image", "masks/widow.png"),
        Fault("files_ignored", "notes.txt"),
        Fault("masks_empty_some", "masks/s02.png"),
    ]
    assert plan(sound(4), "drop_unusable", *faults) == {
        "s00": {"reason": "scan_unreadable"},
        "s01": {"reason": "scan_has_frames"},
        "images/lonely.png": {"reason": "images_without_mask"},
        "masks/widow.png": {"reason": "masks_without_image"},
    }


def test_blank_scans_full_masks_and_sizes_that_nothing_explains_are_left_out():
    scans = sound(6)
    scans[1] = measured("s01", np.full((96, 96), 80, np.uint8), drawn(1)[1])
    scans[2] = mask_with(scans[2], foreground_fraction=1.0)
    scans[3] = mask_with(scans[3], shape=(96, 70))
    scans[4] = mask_with(scans[4], shape=(48, 48))
    assert plan(scans, "drop_unusable") == {
        "s01": {"reason": "scans_blank"},
        "s02": {"reason": "masks_full"},
        "s03": {"reason": "sizes_differ"},
    }


def test_of_copies_that_of_the_test_is_kept_then_that_of_the_validation():
    scans = [replace(scan, split=split) for scan, split in zip(sound(3), ("train", "val", "train"), strict=True)]
    extra = [replace(scans[0], name="x", split="test"), replace(scans[1], name="a", split="train")]
    assert plan([*scans, *extra], "drop_duplicates") == {"s00": {"same_as": "x"}, "a": {"same_as": "s01"}}


# --- masks -----------------------------------------------------------------------------------------------------------


def test_only_masks_of_many_values_are_binarized():
    scans = with_mask(with_mask(sound(4), 1, jpeg), 2, lambda mask: mask // 255)
    assert plan(scans, "binarize_masks") == {"s01": {"threshold": 127}}


def test_two_valued_masks_beside_those_get_the_same_foreground():
    scans = with_mask(with_mask(sound(4), 1, jpeg), 2, lambda mask: mask // 255 * 100)
    assert plan(scans, "binarize_masks") == {"s01": {"threshold": 127}, "s02": {"threshold": 0}}


def test_masks_beside_class_numbers_are_not_binarized():
    scans = with_mask(sound(4), 1, jpeg)
    scans = with_mask(scans, 2, lambda mask: (mask // 255) * np.array([[1], [2]], np.uint8).repeat(48, axis=0))
    assert plan(scans, "binarize_masks") == {}


def test_all_coloured_masks_get_the_same_map():
    scans = with_mask(with_mask(sound(4), 1, red), 3, red)
    colours = {"colours": {"#000000": 0, "#ff0000": 255}}
    assert plan(scans, "map_colours") == {"s01": colours, "s03": colours}


WHITE_AND_RED = {"#000000": 0, "#ffffff": 1, "#ff0000": 2}


def white_with_red_corner(mask):
    rgb = mask[..., None].repeat(3, axis=2)
    rgb[:30, :30] = (255, 0, 0)
    return rgb


def test_masks_that_lack_the_coloured_class_are_mapped_with_the_others():
    scans = with_mask(with_mask(sound(4), 1, white_with_red_corner), 3, white_with_red_corner)
    assert plan(scans, "map_colours") == {f"s{n:02d}": {"colours": WHITE_AND_RED} for n in range(4)}
    (found,) = [one for one in examine(scans, mask_values(scans)) if one.code == "masks_coloured"]
    assert found.remedy == Remedy("map_colours", {"colours": WHITE_AND_RED})


def test_masks_that_are_mapped_are_not_cut_or_inverted_in_the_same_round():
    scans = with_mask(with_mask(sound(4), 1, white_with_red_corner), 2, jpeg)
    scans = with_mask(scans, 3, lambda mask: 255 - mask)
    steps = plan_repair(examination(scans), ["map_colours", "binarize_masks", "invert_masks"])
    assert [(step.remedy, step.scan) for step in steps] == [("map_colours", f"s{n:02d}") for n in range(4)]


@pytest.mark.parametrize(
    "change",
    [
        np.zeros_like,
        lambda mask: mask // 255,
        lambda mask: np.vstack([mask[:20], mask[20:] // 255]),
        lambda mask: mask.astype(np.uint16) * 257,
        lambda mask: drawn(5)[0],
    ],
    ids=["empty", "class number", "class number and void", "16 bit", "picture"],
)
def test_masks_that_show_no_greys_of_the_map_keep_their_values(change):
    scans = with_mask(with_mask(sound(2), 1, white_with_red_corner), 0, change)
    assert set(plan(scans, "map_colours")) == {"s01"}


def test_white_is_a_class_of_its_own_beside_several_colours():
    def red_and_green(mask):
        rgb = red(mask)
        rgb[:20, :20] = (0, 255, 0)
        return rgb

    colours = plan(with_mask(sound(4), 1, red_and_green), "map_colours")["s00"]["colours"]
    assert colours == {"#000000": 0, "#ffffff": 1, "#ff0000": 2, "#00ff00": 3}


def test_inverted_masks_are_those_that_the_finding_means():
    scans = with_mask(sound(5), 3, lambda mask: 255 - mask)
    assert plan(scans, "invert_masks") == {"s03": {}}
    scans = [measured(f"{n}", drawn(n)[0], 255 - drawn(n)[1]) for n in range(4)]
    assert plan(scans, "invert_masks") == {f"{n}": {} for n in range(4)}


@pytest.mark.parametrize(
    ("image", "mask", "turn"),
    [
        ((100, 200), (50, 100), "none"),
        ((100, 200), (99, 200), "none"),  # rounded
        ((100, 200), (200, 100), "transpose"),
        ((100, 200), (60, 30), "transpose"),
        ((100, 100), (50, 50), "none"),
        ((100, 200), (100, 100), None),
        ((100, 103), (103, 100), "transpose"),
    ],
)
def test_sizes_are_explained_by_a_scale_or_a_quarter_turn(image, mask, turn):
    scan = mask_with(image_with(sound(1)[0], shape=image), shape=mask)
    expected = {} if turn is None else {"s00": {"size": f"{image[1]}×{image[0]}", "turn": turn}}
    assert plan([scan], "resize_masks") == expected


def test_masks_of_their_images_size_are_not_resized():
    assert plan(sound(3), "resize_masks") == {}


# --- images and splits -----------------------------------------------------------------------------------------------


def test_alpha_is_dropped_whether_it_carries_something_or_not():
    scans = sound(3)
    scans[0], scans[2] = image_with(scans[0], alpha="varies"), image_with(scans[2], alpha="constant")
    assert plan(scans, "drop_alpha") == {"s00": {}, "s02": {}}


def test_torn_patients_are_put_into_one_split():
    scans = [
        replace(scan, patient=f"{at // 2}", split=split)
        for at, (scan, split) in enumerate(zip(sound(6), ["train", "train", "train", "val", "val", "val"], strict=True))
    ]
    (step,) = plan_repair(examination(scans), ["regroup_splits"])
    assert step == Step("regroup_splits", "s02", {"split": "val", "before": "train"})


# --- configuration ---------------------------------------------------------------------------------------------------


def test_changes_of_the_configuration_are_gathered_and_the_gravest_finding_wins():
    findings = [
        Finding("a", Severity.ERROR, remedy=Remedy("pos_weight", {"pos_weight": 50.0})),
        Finding("b", Severity.WARNING, remedy=Remedy("model", {"model": "unet"})),
        Finding("c", Severity.INFO, remedy=Remedy("pos_weight", {"pos_weight": 2.0})),
        Finding("d", Severity.ERROR, remedy=Remedy("binarize_masks", {"threshold": 1})),
        Finding("e", Severity.ERROR),
    ]
    assert config_changes(findings) == {"model": "unet", "pos_weight": 50.0}
    assert config_changes([]) == {}


def test_a_training_takes_all_changes_that_the_checks_propose():
    scans = [mask_with(scan, counts=((0, 9), (1, 1)), foreground_fraction=0.01) for scan in sound(5)]
    scans[0] = mask_with(scans[0], counts=((0, 9), (1, 1), (2, 1)))
    for values in ((0, 1, 2), (0, 255)):
        changes = config_changes(examine(scans, values))
        assert {"model"} < set(changes)
        assert TrainConfig(**changes).model == "unet"


def test_after_its_repair_a_finding_is_gone():
    scans = with_mask(sound(5), 3, lambda mask: 255 - mask)
    assert "masks_inverted" in {found.code for found in examine(scans, mask_values(scans))}
    assert "masks_inverted" not in {found.code for found in examine(with_mask(scans, 3, np.copy), (0, 255))}
