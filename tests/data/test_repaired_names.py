from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octa_backend.data.layouts import find_layout
from octa_backend.data.pairing import Pair
from octa_backend.data.patients import patient_of
from octa_backend.data.repaired_names import arrange, meant_splits, name_of, split_table
from octa_backend.data.splits import apply_split_table, read_split_table


def written(splits):
    """The scans of these names and splits as they would lie in the new zip: old name -> new pair."""
    return {
        scan: Pair(name_of(scan, path), f"images/{path}.png", f"masks/{path}.png", meant_splits(splits)[scan])
        for scan, path in arrange(splits).items()
    }


def read_back(pairs):
    """What the names of the files and the table of splits show."""
    table = split_table(pairs)
    layout = find_layout(file for pair in pairs for file in (pair.image, pair.mask))
    assert not layout.faults
    assert not layout.notes
    if table is None:
        return set(layout.pairs)
    rows, faults = read_split_table(table, "splits.csv")
    assert not faults
    found, faults = apply_split_table(layout.pairs, rows, "splits.csv")
    assert not faults
    return set(found)


NAMES = [
    ["1", "2", "10"],
    ["左眼 一", "右眼 一"],
    ["p1/od", "p1/os", "p2/od", "p2/os"],
    ["train/12", "test/12", "13"],
    ["12", "12_gt", "12_image"],
    ["mask", "mask_1", "image", "images", "label-2"],
    ["a.png", "a", "b.tif"],
    ["a, b", 'say "a"', " a", "c "],
    ["splits", "masks", "train", "test"],
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
def test_scans_are_read_back_under_their_names(names):
    splits = {name: name.partition("/")[0] for name in names}
    pairs = written({name: split if split in ("train", "test") else None for name, split in splits.items()})
    assert {scan: pair.name for scan, pair in pairs.items()} == {name: name for name in names}
    assert read_back(list(pairs.values())) == set(pairs.values())


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["p1/image"], {"p1/image": "p1_image"}),
        (["scans/1", "raw/1"], {"scans/1": "scans_1", "raw/1": "raw_1"}),
        (["masks/1", "b/1", "c/1"], {"masks/1": "masks_1", "b/1": "b/1", "c/1": "c/1"}),
        (["a/b", "a_b", "A_B_2"], {"a/b": "a_b_3", "a_b": "a_b", "A_B_2": "A_B_2"}),
    ],
)
def test_a_name_that_would_not_be_read_back_loses_its_folders_but_not_their_names(names, wanted):
    pairs = written(dict.fromkeys(names))
    assert {scan: pair.name for scan, pair in pairs.items()} == wanted
    assert read_back(list(pairs.values())) == set(pairs.values())


def test_the_patient_in_a_folders_name_survives():
    assert patient_of("patient7/image") == patient_of(written({"patient7/image": None})["patient7/image"].name) == "7"


def test_a_scan_that_moves_to_another_split_leaves_the_folder_of_the_old_one():
    pairs = written({"train/12": "val", "train/13": "train", "test/12": "test", "test/13": "test"})
    assert {pair.name: pair.split for pair in pairs.values()} == {
        **{"train_12": "val", "test_12": "test"},
        **{"train/13": "train", "test/13": "test"},
    }
    assert read_back(list(pairs.values())) == set(pairs.values())


def test_scans_without_a_split_beside_scans_with_one_are_written_as_train():
    assert meant_splits({"1": None, "2": "test"}) == {"1": "train", "2": "test"}
    assert meant_splits({"1": None, "2": None}) == {"1": None, "2": None}


def test_the_table_names_the_scans():
    table = split_table(list(written({"1": "train", "二": "val"}).values()))
    assert table == "stem,split\n1,train\n二,val\n".encode()


def test_the_table_names_the_images_where_a_name_could_be_two_scans():
    table = split_table(list(written({"1": "train", "1.png": "val"}).values()))
    assert table == b"stem,split\nimages/1.png,train\nimages/1.png.png,val\n"


def test_without_splits_there_is_no_table():
    assert split_table(list(written({"1": None}).values())) is None


PARTS = st.sampled_from(
    ["images", "masks", "train", "Test", "p1", "P1", "a", "a_b", "b", "12", "12_gt", "gt", "more", "1st", "12.png"]
)


@given(
    st.dictionaries(
        st.lists(PARTS, min_size=1, max_size=3).map("/".join),
        st.sampled_from([None, "train", "val", "test"]),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_the_names_are_every_scan_is_read_back_once_in_its_split(splits):
    pairs = list(written(splits).values())
    assert read_back(pairs) == set(pairs)
    assert len({pair.image.casefold() for pair in pairs}) == len(pairs)
