from __future__ import annotations

import pytest

from octa_backend.data.patients import patient_of, patients_of
from octa_backend.data.splits import assign_splits
from octa_backend.data.store import ScanEntry


@pytest.mark.parametrize(
    ("left", "right", "patient"),
    [
        ("001_OD", "001_OS", "001"),
        ("001OD", "001os", "001"),
        ("Image_01L", "Image_01R", "01"),
        ("p12_left", "p12_right", "12"),
        ("patient3_R", "patient3_L", "3"),
        ("patient12_eye1", "patient12_eye2", "12"),
        ("OD_7", "OS_7", "7"),
        ("smith-od", "smith-os", "smith"),
        ("003-OS-visit1", "003-OD-visit2", "003"),
        ("sub-01_ses-01", "sub-01_ses-02", "01"),
        ("siteA_patient3_L", "siteA_patient3_R", "sitea_patient3"),
        ("train/04_OD", "test/04_OS", "04"),
        ("p12/image", "p12/octa", "12"),
    ],
)
def test_both_eyes_of_a_patient_show_the_same_patient(left, right, patient):
    assert patient_of(left) == patient_of(right) == patient


@pytest.mark.parametrize(
    "name",
    ["12", "10001", "21_training", "im0001", "01_dr", "slice_3", "left", "p", "", "00ae65c1c6631ae6f", "control"],
)
def test_names_without_a_patient_show_none(name):
    assert patient_of(name) is None


def test_patients_of_different_sites_stay_apart():
    assert patient_of("A_01_OD") != patient_of("B_01_OD")


# --- words in front of the eye ------------------------------------------------------------------------------------


def entries(names, split=None):
    return [ScanEntry(name, patient, split, (16, 16), "uint8", 0, 0) for name, patient in patients_of(names).items()]


def kinds(names, indices):
    return {names[index].split("_OD")[0].split("_OS")[0] for index in indices}


@pytest.mark.parametrize(
    ("one", "other", "patient"),
    [
        ("OCTA_3x3_OD_12", "OCTA_6x6_OS_12", "12"),
        ("3mm_OD_12", "6mm-OS-12", "12"),
        ("3x3mm_007_OD", "octa_6mmx6mm_007_OS", "007"),
        ("SVC_OD_1", "deep_left_1", "1"),
        ("scan_left_3", "left_3", "3"),
        ("normal_OD_12", "normal_OS_12_b", "normal_12"),
        ("healthy control-right-5", "healthy control-left-5", "healthy control_5"),
    ],
)
def test_a_kind_of_scan_or_a_diagnosis_is_no_patient(one, other, patient):
    assert patients_of([one, other]) == {one: patient, other: patient}


def test_diagnoses_keep_patients_of_the_same_number_apart():
    found = patients_of([*(f"normal_OD_{n}" for n in range(40)), *(f"DR_left_{n:02}" for n in range(25)), "CNV_OS_3"])
    assert (found["normal_OD_3"], found["DR_left_03"], found["CNV_OS_3"]) == ("normal_3", "dr_03", "cnv_3")
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    "prefixes", [("OCTA_3x3", "OCTA_6x6"), ("SVC", "DVC"), ("normal", "DR", "AMD"), ("normal", "a", "b", "c", "d", "e")]
)
def test_all_kinds_of_scans_train_and_validate(prefixes):
    names = [f"{prefix}_{eye}_{n}" for prefix in prefixes for n in range(30) for eye in ("OD", "OS")]
    splits = assign_splits(entries(names), 0.3, 42)
    assert splits.grouped_by_patient
    assert kinds(names, splits.val) == kinds(names, splits.train) == set(prefixes)


def test_many_names_with_few_scans_each_are_patients():
    names = [f"{name}_{eye}_{n}" for name in "abcdefgh" for eye in ("OD", "OS") for n in (1, 2)]
    assert set(patients_of(names).values()) == set("abcdefgh")
    assert patients_of(names[:-4])["a_OD_1"] == "a_1"


def test_a_group_among_many_names_is_none_of_them():
    names = [f"{name}_{eye}_{n}" for name in "abcdefgh" for eye in ("OD", "OS") for n in (1, 2)]
    found = patients_of([*names, *(f"control_OD_{n}" for n in range(20))])
    assert (found["a_OD_1"], found["control_OD_7"]) == ("a", "control_7")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("smith_OD", "smith"),
        ("smith_OD_visit2", "smith"),
        ("smith_OD_20210304", "smith"),
        ("smith_OD_2021-03-04", "smith"),
        ("siteA1_OD_5", "sitea1"),
        ("P01_OD_1", "01"),
        ("12x_OD", "12x"),
    ],
)
def test_names_without_a_number_behind_the_eye_or_with_one_of_their_own_are_patients(name, patient):
    assert patients_of([name]) == {name: patient}
