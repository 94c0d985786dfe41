from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from octa_backend.diagnosis.content import MAX_POS_WEIGHT, TOWARDS_DICE, examine_content, full_masks
from octa_backend.diagnosis.findings import Remedy, Severity
from octa_backend.diagnosis.messages import describe
from octa_backend.training.config import TrainConfig
from tests.diagnosis.scans import by_code, drawn, image_with, mask_values, mask_with, measured, sound

MANY = 50


def found_in(scans):
    return by_code(examine_content(scans, mask_values(scans)))


def with_foreground(*shares):
    return [mask_with(scan, foreground_fraction=share) for scan, share in zip(sound(len(shares)), shares, strict=True)]


# --- foreground ------------------------------------------------------------------------------------------------------


def test_many_sound_scans_of_one_size_have_no_finding():
    assert found_in(sound(MANY)) == {}


def test_scarce_foreground_is_weighed_by_how_much_background_outweighs_it():
    found = found_in(with_foreground(0.01, 0.02))["foreground_scarce"]
    assert found.severity is Severity.WARNING
    assert found.remedy == Remedy("pos_weight", {"pos_weight": 65.7})  # 0.985 / 0.015
    assert found.evidence["mean_foreground"] == 0.015
    assert found.scans == ("s00", "s01")


def test_very_scarce_foreground_is_an_error_in_words_with_its_percentage():
    found = found_in(with_foreground(0.004, 0.0056))["foreground_scarce"]
    assert found.severity is Severity.ERROR
    assert describe(found, "en")["message"].startswith("mean foreground only 0.48 % (<2 %)")
    assert describe(found, "zh")["message"].startswith("平均前景占比仅 0.48 %（<2 %）")
    assert describe(found, "en")["remedy"]["title"] == "weigh foreground pixels 207.3 times"


@pytest.mark.parametrize(("share", "severity"), [(0.02, None), (0.0199, Severity.WARNING), (0.005, Severity.WARNING)])
def test_foreground_is_judged_by_its_mean(share, severity):
    found = found_in(with_foreground(share, share)).get("foreground_scarce")
    assert (found and found.severity) is severity


def test_the_weight_is_one_that_a_training_takes():
    found = found_in(with_foreground(1e-9, 1e-9))["foreground_scarce"]
    assert found.remedy is not None
    assert found.remedy.changes == {"pos_weight": MAX_POS_WEIGHT}
    assert TrainConfig(**found.remedy.changes).pos_weight == MAX_POS_WEIGHT
    with pytest.raises(ValidationError, match="less than or equal to 10000"):
        TrainConfig(pos_weight=1.001 * MAX_POS_WEIGHT)


def test_scarce_classes_are_weighed_by_the_dice_loss():
    scans = [mask_with(scan, counts=((0, 9), (1, 1), (2, 1)), foreground_fraction=0.01) for scan in sound(4)]
    found = by_code(examine_content(scans, (0, 1, 2)))
    assert found["foreground_scarce"].remedy == TOWARDS_DICE


def test_masks_that_are_all_empty_are_not_scarce():
    assert "foreground_scarce" not in by_code(examine_content(with_foreground(0, 0), ()))


def test_masks_without_background_among_others_are_a_warning():
    scans = sound(4)
    scans[1] = measured("s01", drawn(1)[0], np.full((96, 96), 255, np.uint8))
    found = found_in(scans)["masks_full"]
    assert (found.severity, found.scans, found.remedy) == (Severity.WARNING, ("s01",), Remedy("drop_unusable"))


def test_masks_that_are_all_full_or_number_classes_are_not_told_one_by_one():
    assert full_masks(with_foreground(1, 1), (0, 255)) == []
    assert full_masks(with_foreground(1, 0.5), (0, 1, 2)) == []


# --- classes ---------------------------------------------------------------------------------------------------------


def with_classes(*classes, splits=None):
    """Scans whose masks hold these class numbers beside 0."""
    scans = [
        mask_with(scan, counts=((0, 100), *((value, 10) for value in there)))
        for scan, there in zip(sound(len(classes)), classes, strict=True)
    ]
    given = splits or [None] * len(scans)
    return [replace(scan, split=split) for scan, split in zip(scans, given, strict=True)]


def test_a_class_that_a_split_lacks_is_a_warning():
    scans = with_classes((1, 2), (1, 2), (1,), splits=("train", "val", "test"))
    found = by_code(examine_content(scans, (0, 1, 2)))["class_missing_in_split"]
    assert (found.severity, found.remedy) == (Severity.WARNING, None)
    assert (found.evidence["classes"], found.evidence["example"]) == ({"2": "test"}, "2 (test)")


def test_scans_that_a_split_leaves_out_train():
    scans = with_classes((1, 2), (1,), (1, 2), splits=(None, "train", "val"))
    assert "class_missing_in_split" not in by_code(examine_content(scans, (0, 1, 2)))
    scans = with_classes((1,), (1,), (1, 2), splits=(None, "train", "val"))
    assert by_code(examine_content(scans, (0, 1, 2)))["class_missing_in_split"].evidence["classes"] == {"2": "train"}


def test_without_official_split_no_class_is_missing():
    assert "class_missing_in_split" not in by_code(examine_content(with_classes((1, 2), (1,), (1,)), (0, 1, 2)))


def test_binary_masks_of_any_foreground_value_hold_the_same_class():
    scans = with_classes((1,), (255,), (65535,), splits=("train", "val", "test"))
    assert "class_missing_in_split" not in by_code(examine_content(scans, (0, 65535)))


@pytest.mark.parametrize(
    ("scans_with_2", "total", "is_rare"), [(2, 5, True), (1, 3, True), (3, 9, False), (2, 4, False)]
)
def test_a_class_in_fewer_than_3_scans_of_many_is_a_warning(scans_with_2, total, is_rare):
    scans = with_classes(*[(1, 2)] * scans_with_2, *[(1,)] * (total - scans_with_2))
    found = by_code(examine_content(scans, (0, 1, 2))).get("class_rare")
    assert (found is not None) is is_rare
    if found:
        assert (found.remedy, found.evidence["classes"]) == (TOWARDS_DICE, {"2": scans_with_2})
        assert found.scans == tuple(scan.name for scan in scans[:scans_with_2])


# --- the whole dataset -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "is_few"), [(1, True), (49, True), (50, False)])
def test_fewer_than_50_scans_are_few(count, is_few):
    found = found_in(sound(count)).get("few_scans")
    assert (found is not None) is is_few
    if found:
        assert (found.severity, found.remedy) == (Severity.WARNING, Remedy("model", {"model": "unet"}))
        assert (found.evidence["scan_count"], found.evidence["threshold"]) == (count, 50)


def test_several_sizes_are_an_info_with_the_commonest_first():
    scans = sound(MANY)
    scans[3] = image_with(scans[3], shape=(40, 200))
    found = found_in(scans)["sizes_vary"]
    assert (found.severity, found.scans) == (Severity.INFO, ("s03",))
    assert found.evidence["sizes"] == {"96×96": 49, "200×40": 1}
    assert (found.evidence["size_count"], found.evidence["extreme"]) == (2, 1)


def test_one_extreme_size_is_told_too():
    scans = [image_with(scan, shape=(40, 121)) for scan in sound(3)]
    assert found_in(scans)["sizes_vary"].evidence["size_count"] == 1
    assert "sizes_vary" not in found_in([image_with(scan, shape=(40, 120)) for scan in sound(3)])
