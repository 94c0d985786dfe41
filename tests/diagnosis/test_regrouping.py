from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from octa_backend.diagnosis.leakage import torn_patients
from octa_backend.diagnosis.regrouping import regrouped
from tests.diagnosis.scans import sound


def of_patients(*patients):
    """One scan after the other: ("1", "train val val") are three scans of patient 1."""
    named = [(patient, split) for patient, splits in patients for split in splits.split()]
    one = sound(1)[0]
    return [replace(one, name=f"{at:03d}", patient=who, split=split) for at, (who, split) in enumerate(named)]


def moved(scans):
    moves = regrouped(scans)
    return [replace(scan, split=moves.get(scan.name, scan.split)) for scan in scans]


def splits(scans):
    return [scan.split for scan in scans]


def test_a_patient_goes_where_most_of_the_scans_are():
    whole = (("3", "train " * 9), ("4", "val " * 9))
    scans = of_patients(("1", "train train val"), ("2", "train val val"), *whole)
    assert regrouped(scans) == {"002": "train", "003": "val"}


def test_a_patient_of_the_test_goes_there_while_there_is_room():
    scans = of_patients(("1", "train train test"), ("2", "train " * 20), ("3", "test " * 29))
    assert regrouped(scans) == {"000": "test", "001": "test"}


def test_whole_patients_stay():
    scans = of_patients(("1", "train train"), ("2", "val val"), ("3", "test"))
    assert regrouped(scans) == {}


def test_scans_without_patient_stay():
    assert regrouped(of_patients((None, "train val test"))) == {}


def test_splits_keep_about_their_sizes():
    scans = of_patients(*((f"{n:02d}", "train val") for n in range(8)), *((f"w{n}", "train train") for n in range(12)))
    after = Counter(splits(moved(scans)))
    assert (after["train"], after["val"]) == (32, 8)
    scans = of_patients(*((f"{n:02d}", "train test") for n in range(50)))
    after = Counter(splits(moved(scans)))
    assert after["train"] == pytest.approx(50, abs=6)


def test_no_patient_is_torn_afterwards_and_the_same_scans_move_every_time():
    scans = of_patients(
        *((f"{n:02d}", " ".join(("train", "val", "test", "train")[n % 3 : 2 + n % 4])) for n in range(30))
    )
    assert torn_patients(scans)
    assert not torn_patients(moved(scans))
    assert regrouped(scans) == regrouped(scans[::-1])
