from __future__ import annotations

import json

import pytest

from octa_backend.errors import InvalidModel
from octa_backend.inference.safetensors_header import read_header

GOOD = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def file_of(tmp_path, header, data=bytes(24), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def test_a_sound_header_names_the_tensors(tmp_path):
    path = file_of(tmp_path, {"__metadata__": {"format": "pt"}, "a.weight": GOOD})
    assert {name: (one.dtype, one.shape) for name, one in read_header(path, "w").items()} == {
        "a.weight": ("F32", (2, 3))
    }


@pytest.mark.parametrize(
    ("header", "phrase"),
    [
        ({"a": {**GOOD, "data_offsets": [0, 20]}}, "24 bytes, but 20 bytes are given"),
        ({"a": {**GOOD, "shape": [2**40, 2**40]}}, "but 24 bytes are given"),
        ({"a": {**GOOD, "shape": [-2, -3]}}, "not a list of up to 8 lengths"),
        ({"a": {**GOOD, "shape": [True, 6]}}, "not a list of up to 8 lengths"),
        ({"a": {**GOOD, "shape": [1] * 7 + [2, 3]}}, "not a list of up to 8 lengths"),
        ({"a": {**GOOD, "dtype": "F128"}}, "kind 'F128'"),
        ({"a": {**GOOD, "data_offsets": [0]}}, "are not two places"),
        ({"a": {**GOOD, "more": 1}}, "needs dtype, shape and data_offsets, and nothing else"),
        ({"a": GOOD, "b": GOOD}, "begins at byte 0 and overlaps another one"),
        ({"a": {**GOOD, "data_offsets": [8, 32]}}, "leaves a gap before it"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, "end at byte 8, but 24 bytes follow"),
        ({}, "holds no weights"),
        ([], "not a JSON object"),
        (b"{{", "its header is not JSON"),
        (b'{"a": {}, "a": {}}', "a name stands in it twice"),
        (b"[" * 100_000, "its header is not JSON"),
    ],
)
def test_a_forged_header_is_refused(tmp_path, header, phrase):
    with pytest.raises(InvalidModel, match="w") as refused:
        read_header(file_of(tmp_path, header), "w")
    assert phrase in refused.value.message


@pytest.mark.parametrize("length", [0, 10**6, 2**63])
def test_a_length_beyond_the_file_is_refused_before_it_is_read(tmp_path, length):
    with pytest.raises(InvalidModel, match="not a safetensors file: it has"):
        read_header(file_of(tmp_path, {"a": GOOD}, length=length), "w")


def test_a_header_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("octa_backend.inference.safetensors_header.MAX_HEADER_BYTES", 10)
    with pytest.raises(InvalidModel, match="10 are allowed"):
        read_header(file_of(tmp_path, {"a": GOOD}), "w")


def test_too_many_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("octa_backend.inference.safetensors_header.MAX_TENSORS", 1)
    with pytest.raises(InvalidModel, match="holds 2 tensors, 1 are allowed"):
        read_header(file_of(tmp_path, {"a": GOOD, "b": GOOD}), "w")
