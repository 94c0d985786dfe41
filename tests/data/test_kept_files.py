from __future__ import annotations

import pytest

from octa_backend.data.kept_files import KeptFiles


class Counted:
    """Files in memory that count how often each is read."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.members, self.duplicates = dict.fromkeys(files), {"a": 2}
        self.reads: list[str] = []

    def read(self, name: str, max_bytes: int) -> bytes:
        self.reads.append(name)
        return self.files[name][:max_bytes]


def test_a_file_is_kept_for_its_second_reading_only():
    source = Counted(a=b"1234")
    kept = KeptFiles(source)
    assert [kept.read("a", 9) for _ in range(3)] == [b"1234"] * 3
    assert source.reads == ["a", "a"]


@pytest.mark.parametrize(("most_bytes", "read_twice"), [(6, []), (5, ["b"]), (1, ["a", "b"])])
def test_no_more_bytes_are_kept_than_allowed(most_bytes, read_twice):
    source = Counted(a=b"123", b=b"456")
    kept = KeptFiles(source, most_bytes)
    for _ in range(2):
        assert (kept.read("a", 9), kept.read("b", 9)) == (b"123", b"456")
    assert source.reads == ["a", "b", *read_twice]


def test_room_that_was_used_once_is_not_used_again():
    source = Counted(a=b"123", b=b"456")
    kept = KeptFiles(source, 5)
    for name in ("a", "a", "b", "b"):
        kept.read(name, 9)
    assert source.reads == ["a", "b", "b"]


def test_what_the_source_lists_is_listed():
    source = Counted(a=b"1")
    kept = KeptFiles(source)
    assert (kept.members, kept.duplicates) == (source.members, source.duplicates)
