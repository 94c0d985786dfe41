from __future__ import annotations

import pytest

from octa_backend.data.folds import assign_folds, check_folds
from octa_backend.data.store import ScanEntry
from octa_backend.errors import InvalidConfig


def entry(name: str, patient: str | None = None, split: str | None = None) -> ScanEntry:
    return ScanEntry(name, patient, split, (8, 8), "uint8", 0, 0)


def entries(count: int, **columns) -> list[ScanEntry]:
    return [entry(f"s{number}", **columns) for number in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_every_scan_validates_once_and_trains_in_all_other_folds(seed):
    found = assign_folds(entries(13), [0.1] * 13, 4, seed)
    assert sorted(index for splits in found for index in splits.val) == list(range(13))
    for splits in found:
        assert sorted(splits.train + splits.val) == list(range(13))
    assert sorted(len(splits.val) for splits in found) == [3, 3, 3, 4]


def test_the_test_split_is_in_no_fold_and_official_validation_scans_are_in_them():
    scans = [*entries(4, split="train"), entry("v", split="val"), entry("t", split="test")]
    found = assign_folds(scans, [0.1] * 6, 5, 0)
    assert {splits.test for splits in found} == {(5,)}
    assert sorted(index for splits in found for index in splits.val) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_whole_and_the_folds_are_of_like_size(seed):
    scans = [entry(f"{patient}_{eye}", patient) for patient in "abcdef" for eye in ("OD", "OS")]
    scans += [entry(f"g_{number}", "g") for number in range(4)]
    found = assign_folds(scans, [0.1] * 16, 3, seed)
    for splits in found:
        assert splits.grouped_by_patient
        assert not {scans[index].patient for index in splits.train} & {scans[index].patient for index in splits.val}
    assert sorted(len(splits.val) for splits in found) in ([4, 6, 6], [5, 5, 6])


@pytest.mark.parametrize("seed", range(5))
def test_each_fold_gets_as_much_foreground(seed):
    foreground = [0.5 if number % 4 == 0 else 0.01 for number in range(16)]
    for splits in assign_folds(entries(16), foreground, 4, seed):
        assert sum(foreground[index] > 0.1 for index in splits.val) == 1


def test_the_same_seed_gives_the_same_folds_and_another_one_others():
    first, again, other = (assign_folds(entries(20), [0.1] * 20, 4, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_more_folds_than_scans_or_patients_are_refused_in_words():
    with pytest.raises(InvalidConfig, match="folds=5, but the dataset has 4 scans beside the test split"):
        check_folds([*entries(4), entry("t", split="test")], 5)
    pairs = [entry(f"{patient}_{eye}", patient) for patient in "abc" for eye in ("OD", "OS")]
    with pytest.raises(InvalidConfig, match="folds=4, but the dataset has 3 patients, of whom each is in one fold"):
        assign_folds(pairs, [0.1] * 6, 4, 0)
