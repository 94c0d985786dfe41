from __future__ import annotations

import pytest

from octa_backend.data.class_table import ClassLabel, class_table, in_order, labels_of_colours, read_class_table

LABELS = {0: ClassLabel("background"), 7: ClassLabel('a "vein", small', "#0a84ff"), 2: ClassLabel("动脉")}


def test_table_is_read_back_as_it_was_written():
    assert read_class_table(class_table(LABELS), "classes.csv") == (LABELS, [])


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("value,name\n-1,vessel\n", "classes.csv, line 2", "'-1', 'vessel', ''"),
        ("value,name\n1,\n", "classes.csv, line 2", "'1', '', ''"),
        ("value,name\n1,one\n1,two\n", "classes.csv, line 3", "'1', 'two', ''"),
        ("value,name,colour\n1,one,red\n", "classes.csv, line 2", "'1', 'one', 'red'"),
        ("number,title\n1,one\n", "classes.csv, line 2", "'', '', ''"),
        ("value,name\n", "classes.csv", "no rows"),
    ],
)
def test_table_with_a_fault_is_not_used_and_the_fault_is_told(text, place, found):
    labels, (fault,) = read_class_table(text.encode(), "classes.csv")
    assert labels == {}
    assert (fault.code, fault.file, fault.found) == ("classes_not_understood", place, found)


def test_what_is_no_text_is_no_table():
    labels, (fault,) = read_class_table(b"\xff\xfe\x00", "classes.csv")
    assert labels == {}
    assert "not a table" in fault.found


def test_colours_that_became_values_are_called_by_their_colour():
    assert labels_of_colours({"#FF0000": 1}, {}) == {1: ClassLabel("#ff0000", "#ff0000")}


def test_names_go_with_the_colours_that_the_table_gives_them_whatever_values_these_get():
    known = {0: ClassLabel("background"), 1: ClassLabel("artery", "#ff0000"), 2: ClassLabel("vein", "#0000ff")}
    found = labels_of_colours({"#000000": 0, "#0102fd": 1, "#ff0000": 2, "#00ff00": 3}, known)
    assert [found[value].name for value in range(4)] == ["background", "vein", "artery", "#00ff00"]


def test_names_go_with_the_grey_levels_that_the_table_numbers():
    known = {100: ClassLabel("avascular zone", "#ff8800"), 255: ClassLabel("vessel")}
    found = labels_of_colours({"#000000": 0, "#646464": 1, "#ffffff": 2}, known)
    assert {value: label.name for value, label in found.items()} == {0: "#000000", 1: "avascular zone", 2: "vessel"}


def test_names_of_a_table_without_colours_are_those_of_the_new_values():
    known = {1: ClassLabel("artery"), 2: ClassLabel("vein", "#0a84ff")}
    found = labels_of_colours({"#000000": 0, "#ff0000": 1, "#0000ff": 2}, known)
    assert (found[1], found[2]) == (known[1], known[2])


def test_labels_stand_in_the_order_of_the_values_and_nobody_names_what_has_no_row():
    assert in_order(LABELS, (0, 1, 7)) == (LABELS[0], ClassLabel("class 1"), LABELS[7])
    assert in_order(LABELS, (3, 4)) == ()
