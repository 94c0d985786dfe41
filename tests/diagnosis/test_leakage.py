from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from octa_backend.diagnosis import leakage
from octa_backend.diagnosis.findings import Remedy, Severity
from octa_backend.diagnosis.leakage import copies, examine_leakage
from octa_backend.diagnosis.remedies import is_safe
from tests.diagnosis.scans import by_code, drawn, measured, sound


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=50)
    return np.asarray(Image.open(buffer))


def copy_of(number, name, change=lambda image: image, split=None, mask=None):
    image, own_mask = drawn(number)
    return measured(name, change(image), own_mask if mask is None else mask, split=split)


def divided(*splits):
    """Sound scans in these splits."""
    return [replace(scan, split=split) for scan, split in zip(sound(len(splits)), splits, strict=True)]


def found_in(scans):
    return by_code(examine_leakage(scans))


def test_different_scans_have_no_finding():
    assert found_in(sound(8)) == {}
    assert found_in(divided("train", "val", "test", "train", None)) == {}


@pytest.mark.parametrize(("change", "exact"), [(lambda image: image, 1), (jpeg, 0)], ids=["exact", "near"])
@pytest.mark.parametrize("split", [None, "train"])
def test_a_copy_among_scans_of_which_some_will_validate_is_a_warning(change, exact, split):
    found = found_in([*divided("train", "train", split, "test"), copy_of(2, "z", change, split=split)])
    (one,) = found.values()
    assert (one.code, one.severity, one.scans) == ("duplicates_before_split", Severity.WARNING, ("z",))
    assert (one.remedy, one.evidence["exact"], one.evidence["groups"]) == (Remedy("drop_duplicates"), exact, 1)
    assert one.evidence["files"] == {"z": "as s02"}
    assert is_safe(one)


@pytest.mark.parametrize("patients", [("1", "1", "2", "3"), (None, "1", "1", "2")])
def test_copies_that_may_be_drawn_apart_are_those_of_unknown_or_several_patients(patients):
    scans = [*sound(3), copy_of(0, "z", jpeg)]
    found = found_in([replace(scan, patient=patient) for scan, patient in zip(scans, patients, strict=True)])
    assert set(found) == {"duplicates_before_split"}


def test_copies_of_one_patient_stay_together():
    scans = [*sound(3), copy_of(0, "z", jpeg)]
    found = found_in([replace(scan, patient=patient) for scan, patient in zip(scans, "1231", strict=True)])
    assert {code: one.severity for code, one in found.items()} == {"duplicates_within_split": Severity.INFO}


def test_layers_of_one_eye_are_no_copies_even_where_vessels_of_one_shine_through_the_other():
    scans = [measured(f"{number}_svc", *drawn(number, 160)) for number in range(5)]
    for number in range(5):
        deep = np.clip(drawn(20 + number, 160)[0] / 2 + drawn(number, 160)[0] / 4, 0, 255).astype(np.uint8)
        scans.append(measured(f"{number}_dvc", deep, drawn(20 + number, 160)[1]))
    assert found_in(scans) == {}


def test_look_alikes_that_are_called_layers_are_no_leak():
    twins = [measured("7_svc", *drawn(2)), measured("7_dvc", jpeg(drawn(2)[0]), drawn(2)[1])]
    assert {code: one.severity for code, one in found_in([*divided(None, None), *twins]).items()} == {
        "duplicates_within_split": Severity.INFO
    }
    again = measured("8_svc", jpeg(drawn(2)[0]), drawn(2)[1])
    assert set(found_in([*divided(None, None), *twins, again])) == {"duplicates_before_split"}


def test_copies_in_the_test_leak_nothing():
    found = found_in([*divided("train", "train", "test"), copy_of(2, "z", split="test")])
    assert set(found) == {"duplicates_within_split"}


@pytest.mark.parametrize(("change", "exact"), [(lambda image: image, 1), (jpeg, 0)], ids=["exact", "near"])
def test_a_copy_in_an_official_split_is_an_info(change, exact):
    found = found_in([*divided("train", "val", "train"), copy_of(2, "z", change, split="train")])
    (one,) = found.values()
    assert (one.code, one.severity, one.scans) == ("duplicates_within_split", Severity.INFO, ("z",))
    assert (one.remedy, one.evidence["exact"], one.evidence["groups"]) == (Remedy("drop_duplicates"), exact, 1)
    assert one.evidence["files"] == {"z": "as s02"}


@pytest.mark.parametrize("change", [lambda image: image, jpeg], ids=["exact", "near"])
def test_a_copy_in_training_and_validation_is_an_error(change):
    found = found_in([*divided("train", "train", "val", "train"), copy_of(2, "z", change, split="train")])
    (one,) = found.values()
    assert (one.code, one.severity) == ("duplicates_across_splits", Severity.ERROR)
    assert one.evidence["files"] == {"z": "train, as s02 (val)"}
    assert one.remedy == Remedy("drop_duplicates")


@pytest.mark.parametrize("split", ["train", "val", None])
def test_a_copy_of_a_test_scan_elsewhere_is_an_error(split):
    found = found_in([*divided("train", "test", "val"), copy_of(1, "z", split=split)])
    (one,) = found.values()
    assert (one.code, one.severity) == ("test_overlap", Severity.ERROR)
    assert one.evidence["files"] == {"z": f"{split or 'train'}, as s01 (test)"}


def test_a_scan_in_all_three_splits_is_both_errors():
    found = found_in([*divided("train", "val", "test"), copy_of(1, "y", split="train"), copy_of(1, "z", split="test")])
    assert found["test_overlap"].evidence["files"] == {"s01": "val, as z (test)", "y": "train, as z (test)"}
    assert found["duplicates_across_splits"].evidence["files"] == {"y": "train, as s01 (val)"}


def test_the_copy_that_is_kept_is_that_of_test_before_val_before_train():
    scans = [*divided("train", "val"), copy_of(0, "a", split="train"), copy_of(0, "z", split="test")]
    (group,) = copies(scans)
    assert [scan.name for scan in group.scans] == ["z", "a", "s00"]
    assert group.exact


def test_chains_of_copies_are_one_group():
    scans = [*sound(4), copy_of(3, "x", jpeg), copy_of(3, "y", lambda image: image // 2), copy_of(3, "z")]
    (group,) = copies(scans)
    assert [scan.name for scan in group.scans] == ["s03", "x", "y", "z"]
    assert not group.exact


def test_blank_scans_are_no_copies_of_each_other():
    blank = [measured(f"b{n}", np.zeros((96, 96), np.uint8), drawn(n)[1]) for n in range(3)]
    assert found_in([*sound(3), *blank]) == {}


@pytest.mark.parametrize("change", [lambda image: image, jpeg], ids=["exact", "near"])
def test_one_image_with_two_masks_is_a_warning(change):
    found = found_in([*sound(5), copy_of(2, "z", change, mask=drawn(20)[1])])
    assert set(found) == {"duplicates_before_split", "duplicates_two_masks"}
    two = found["duplicates_two_masks"]
    assert (two.severity, two.scans, two.remedy) == (Severity.WARNING, ("z",), None)
    assert two.evidence["files"]["z"].endswith("% unlike s02")


def test_a_second_drawing_of_the_same_vessels_is_no_other_mask():
    image, mask = drawn(2)
    thicker = np.maximum(mask, np.roll(mask, 1, 1))
    assert "duplicates_two_masks" not in found_in([*sound(5), measured("z", image, thicker)])


def test_masks_of_shifted_copies_are_not_compared(monkeypatch):
    monkeypatch.setattr(leakage, "DIFFERENT_MASKS", 0.1)
    image, mask = drawn(2)
    moved = measured("z", np.roll(image, (2, 2), (0, 1)), np.roll(mask, (2, 2), (0, 1)))
    assert set(found_in([*sound(5), moved])) == {"duplicates_before_split"}


def test_a_mirrored_copy_with_its_mask_has_one_mask():
    image, mask = drawn(2)
    mirrored = measured("z", np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]))
    assert set(found_in([*sound(5), mirrored])) == {"duplicates_before_split"}


def test_a_patient_in_two_splits_is_an_error():
    scans = [
        replace(scan, patient=patient)
        for scan, patient in zip(divided("train", "val", "train", "test"), ("1", "1", "2", None), strict=True)
    ]
    (found,) = found_in(scans).values()
    assert (found.code, found.severity, found.scans) == ("patient_across_splits", Severity.ERROR, ("s00", "s01"))
    assert (found.evidence["patients"], found.evidence["patient_count"]) == (["1"], 1)
    assert found.remedy == Remedy("regroup_splits")


def test_without_official_split_patients_are_whole():
    assert found_in([replace(scan, patient="1") for scan in sound(4)]) == {}
