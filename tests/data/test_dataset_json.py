import json

import pytest

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.dataset_json import read_dataset_json


@pytest.mark.parametrize(
    "facts",
    [
        {"modality": {"0": "FLAIR", "1": "T1"}, "labels": {"0": "background", "2": "edema"}},
        {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "edema": 2, "whole": [1, 2]}},
    ],
)
def test_names_are_read_both_ways(facts):
    names, faults = read_dataset_json(json.dumps(facts).encode(), "dataset.json")
    assert names.channels == {0: "FLAIR", 1: "T1"}
    assert names.labels == {0: ClassLabel("background"), 2: ClassLabel("edema")}
    assert faults == []


def test_the_size_that_voxels_were_brought_to_is_read():
    names, faults = read_dataset_json(b'{"common_spacing_mm": [3, 0.5, 1e-1]}', "dataset.json")
    assert (names.common_spacing_mm, faults) == ((3.0, 0.5, 0.1), [])
    assert read_dataset_json(b"{}", "dataset.json")[0].common_spacing_mm == ()


@pytest.mark.parametrize("sides", ["[1, 1]", "[1, 1, 0]", "[1, 1, -1]", "[1, 1, NaN]", "[1, 1, null]", '"1"', "{}"])
def test_a_size_that_makes_no_sense_is_a_fault(sides):
    names, faults = read_dataset_json(f'{{"common_spacing_mm": {sides}}}'.encode(), "dataset.json")
    assert names.common_spacing_mm == ()
    assert [fault.code for fault in faults] == ["dataset_json_not_understood"]


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b'{"labels": {"a": "b"}}', b'{"labels": {"a": -1}}', b'{"modality": ["MRI"]}',
     b'{"labels": {"0": ""}}', b'{"labels": {"x": true}}', b"[" * 100_000],
)  # fmt: skip
def test_what_makes_no_sense_gives_no_names_and_a_fault(content):
    names, faults = read_dataset_json(content, "d/dataset.json")
    assert not names.channels
    assert not names.labels
    assert [(fault.code, fault.file) for fault in faults] == [("dataset_json_not_understood", "d/dataset.json")]
