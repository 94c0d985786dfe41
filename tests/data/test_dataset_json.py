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
