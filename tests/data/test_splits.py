from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octa_backend.data.pairing import Pair
from octa_backend.data.patients import patient_of
from octa_backend.data.splits import apply_split_table, assign_splits, read_split_table
from octa_backend.data.store import ScanEntry


def scan(name, split=None, patient=None):
    return ScanEntry(name, patient or patient_of(name), split, (16, 16), "uint8", 0, 0)


def scans(*names):
    return [scan(name) for name in names]


# --- assigning ----------------------------------------------------------------------------------------------------


def test_an_official_split_is_taken_as_it_stands():
    splits = assign_splits([scan("a", "test"), scan("b", "val"), scan("c", "train"), scan("d", "train")], 0.5, 0)
    assert (splits.train, splits.val, splits.test) == ((2, 3), (1,), (0,))


def test_validation_scans_come_from_the_training_scans_when_the_official_split_has_none():
    entries = [scan(str(n), "train" if n < 10 else "test") for n in range(20)]
    splits = assign_splits(entries, 0.2, 1)
    assert splits.test == tuple(range(10, 20))
    assert len(splits.val) == 2
    assert sorted(splits.train + splits.val) == list(range(10))


def test_scans_that_the_official_split_leaves_out_train():
    assert assign_splits([scan("a", "train"), scan("b"), scan("c", "val")], 0.2, 0).train == (0, 1)


def test_official_test_scans_stay_where_they_are_though_their_patient_trains():
    entries = [scan("1_OD", "train"), scan("1_OS", "test"), scan("2_OD", "train"), scan("2_OS", "train")]
    splits = assign_splits(entries, 0.3, 0)
    assert splits.test == (1,)
    assert sorted(splits.train + splits.val) == [0, 2, 3]


def test_patients_are_not_torn_apart():
    entries = scans(*(f"{n:02}_{eye}" for n in range(20) for eye in ("OD", "OS")))
    splits = assign_splits(entries, 0.2, 3)
    assert splits.grouped_by_patient
    assert len(splits.val) == 8
    assert not {entries[i].patient for i in splits.val} & {entries[i].patient for i in splits.train}


def test_scans_are_drawn_one_by_one_where_less_than_half_of_the_names_show_patients():
    splits = assign_splits(scans("01_OD", "01_OS", "x", "y", "z"), 0.4, 0)
    assert not splits.grouped_by_patient
    assert len(splits.val) == 2


def test_a_single_patient_is_drawn_scan_by_scan():
    splits = assign_splits(scans("01_OD", "01_OS"), 0.5, 0)
    assert not splits.grouped_by_patient
    assert len(splits.train) == len(splits.val) == 1


def test_a_single_scan_both_trains_and_validates():
    splits = assign_splits(scans("only"), 0.2, 0)
    assert splits.train == splits.val == (0,)


def test_another_seed_draws_another_validation_set():
    entries = scans(*(str(n) for n in range(50)))
    drawn = {assign_splits(entries, 0.2, seed).val for seed in range(5)}
    assert len(drawn) == 5
    assert assign_splits(entries, 0.2, 4) == assign_splits(entries, 0.2, 4)


def test_a_split_without_training_scans_is_an_error():
    with pytest.raises(ValueError, match="no scan is left"):
        assign_splits([scan("a", "test"), scan("b", "val")], 0.2, 0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_a_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        assign_splits(scans("a", "b"), fraction, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["train", None, "test"]), st.sampled_from([None, "1", "2", "3"])), min_size=2),
    st.floats(0.01, 0.99),
    st.integers(0, 100),
)
def test_every_scan_is_in_one_part_and_neither_train_nor_val_is_empty(facts, fraction, seed):
    entries = [scan("x", split, patient) for split, patient in facts]
    if sum(entry.split != "test" for entry in entries) < 2:
        return
    splits = assign_splits(entries, fraction, seed)
    assert splits.train
    assert splits.val
    assert sorted(splits.train + splits.val + splits.test) == list(range(len(entries)))
    if splits.grouped_by_patient:
        torn = {entries[i].patient for i in splits.val} & {entries[i].patient for i in splits.train}
        assert torn <= {None}


# --- the table ----------------------------------------------------------------------------------------------------

PAIRS = [Pair("1", "images/1.png", "masks/1.png", None), Pair("2", "images/2.png", "masks/2.png", None)]


@pytest.mark.parametrize(
    "data",
    [
        b"stem,split\n1,train\n2,test\n",
        b"\xef\xbb\xbfStem;Split\r\n1;Training\r\n2;TEST\r\n\r\n",
        b"filename\tset\n1.png\ttrain\nimages\\2.png\ttesting\n",
        b"id,note,subset\nmasks/1.png,x,tr\n./images/2.PNG,,test\n",
        "图,image,split\n一,1,train\n二,2,test\n".encode("gb18030"),
        b'name,split\n"1","train"\n"2","test"',
    ],
)
def test_tables_in_usual_dialects_are_understood(data):
    rows, faults = read_split_table(data, "splits.csv")
    pairs, notes = apply_split_table(PAIRS, rows, "splits.csv")
    assert not faults
    assert not notes
    assert [pair.split for pair in pairs] == ["train", "test"]


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b"stem,split\n1,trian\n", "splits.csv, line 2", "1: 'trian'"),
        (b"stem,split\n1,train\n\n1,test\n", "splits.csv, line 4", "1: train, test"),
        (b"stem,split\n1\n", "splits.csv, line 2", "1: ''"),
        (b"a,b\n1,train\n", "splits.csv", "columns: a, b"),
        (b"", "splits.csv", "columns: "),
        (b"\xff\xff\xff", "splits.csv", "not a table"),
    ],
)
def test_tables_that_make_no_sense_are_faults_with_the_line(data, where, what):
    _, faults = read_split_table(data, "splits.csv")
    assert [(fault.code, fault.file) for fault in faults] == [("splits_not_understood", where)]
    assert faults[0].found.startswith(what)


def test_rows_and_scans_that_do_not_meet_are_warnings():
    pairs, notes = apply_split_table(PAIRS, {"1": "test", "9": "train"}, "splits.csv")
    assert {(note.code, note.file) for note in notes} == {("splits_rows_unknown", "9"), ("scans_without_split", "2")}
    assert [pair.split for pair in pairs] == ["test", None]


def test_a_table_about_other_scans_is_a_fault():
    _, notes = apply_split_table(PAIRS, {"8": "test", "9": "train"}, "splits.csv")
    assert [note.code for note in notes] == ["splits_not_understood"]


def test_a_table_that_contradicts_the_folders_is_a_fault():
    pairs = [Pair("1", "train/images/1.png", "train/masks/1.png", "train")]
    _, notes = apply_split_table(pairs, {"1": "test"}, "splits.csv")
    assert [(note.code, note.file) for note in notes] == [("splits_not_understood", "train/images/1.png")]


def test_a_stem_that_several_scans_share_names_none_of_them():
    pairs = [Pair("train/1", "train/1.png", "m1", "train"), Pair("test/1", "test/1.png", "m2", "test")]
    _, notes = apply_split_table(pairs, {"1": "test", "train/1": "train", "test/1.png": "test"}, "splits.csv")
    assert [(note.code, note.file) for note in notes] == [("splits_rows_unknown", "1")]
