from __future__ import annotations

import os
import sys
import unicodedata

import pytest

from octa_backend.data.examination import Source
from octa_backend.data.folder import Folder
from octa_backend.data.layouts import find_layout
from octa_backend.errors import ArchiveTooLarge, InvalidArchive, UnreadableScan
from tests.fakes import linked


def written(folder, *names, content=b"scan"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names_in(folder, max_files=100):
    with Folder(folder, max_files=max_files) as opened:
        return list(opened.members)


def test_files_are_found_at_any_depth_with_slashes_in_the_order_of_their_paths(tmp_path):
    written(tmp_path, "b/masks/1.png", "b/images/1.png", "readme.txt", "a.png")
    assert names_in(tmp_path) == ["a.png", "b/images/1.png", "b/masks/1.png", "readme.txt"]


def test_a_folder_is_a_source_that_is_paired_and_read_like_a_zip(tmp_path):
    written(tmp_path, "images/1.png", "masks/1.png")
    with Folder(tmp_path, max_files=10) as folder:
        source: Source = folder
        (pair,) = find_layout(source.members).pairs
        assert (pair.name, pair.image, pair.mask) == ("1", "images/1.png", "masks/1.png")
        assert source.read(pair.image, 4) == b"scan"
        assert source.members["masks/1.png"].size == 4
        assert not source.members["masks/1.png"].is_folder
        assert source.duplicates == {}


def test_what_is_left_behind_and_hidden_is_passed_over(tmp_path):
    left = (".DS_Store", "Thumbs.db", "desktop.ini", ".git/a.png", "__MACOSX/1.png", "a/._1.png", "a/Icon\r")
    written(tmp_path, "1.png", *left)
    assert names_in(tmp_path) == ["1.png"]


def test_a_hidden_folder_that_is_named_is_read(tmp_path):
    assert names_in(written(tmp_path / ".data", "1.png")) == ["1.png"]


def test_links_are_not_followed(tmp_path):
    written(tmp_path / "outside", "2.png")
    written(tmp_path / "data", "1.png")
    linked(tmp_path / "data" / "2.png", tmp_path / "outside" / "2.png")
    linked(tmp_path / "data" / "more", tmp_path / "outside")
    linked(tmp_path / "data" / "again", tmp_path / "data")
    assert names_in(tmp_path / "data") == ["1.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are there on POSIX systems only")
def test_what_is_no_plain_file_is_passed_over(tmp_path):
    written(tmp_path, "1.png")
    os.mkfifo(tmp_path / "2.png")
    assert names_in(tmp_path) == ["1.png"]


def test_decomposed_letters_are_composed(tmp_path):
    written(tmp_path, unicodedata.normalize("NFD", "é.png"), "视网膜/图像.png")
    with Folder(tmp_path, max_files=10) as folder:
        assert list(folder.members) == ["é.png", "视网膜/图像.png"]
        assert folder.read("é.png", 100) == b"scan"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS holds the two names for one")
def test_names_that_differ_only_in_how_letters_are_composed_are_duplicates(tmp_path):
    written(tmp_path, "é.png", unicodedata.normalize("NFD", "é.png"))
    with Folder(tmp_path, max_files=10) as folder:
        assert list(folder.members) == ["é.png"]
        assert folder.duplicates == {"é.png": 2}


def test_more_files_than_allowed_are_refused(tmp_path):
    written(tmp_path, "1.png", "a/2.png", "a/3.png", ".hidden")
    assert len(names_in(tmp_path, max_files=3)) == 3
    with pytest.raises(ArchiveTooLarge, match="holds more than 2 files, 2 are allowed"):
        names_in(tmp_path, max_files=2)


def test_a_folder_without_files_is_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(InvalidArchive, match=r"holds no files \(links and hidden files do not count\); put a"):
        names_in(tmp_path)
    with pytest.raises(InvalidArchive, match="put scans into it"):
        Folder(tmp_path, max_files=9, wanted="scans")


def test_a_file_and_a_folder_that_is_not_there_are_no_folders(tmp_path):
    written(tmp_path, "1.png")
    with pytest.raises(InvalidArchive, match=r"1\.png is not a folder; name a folder of scans"):
        names_in(tmp_path / "1.png")
    with pytest.raises(InvalidArchive, match=r"2 is not there; name a folder of scans"):
        names_in(tmp_path / "2")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", [b"a\\b.png", b"a\nb.png", b"\xff.png"])
def test_names_that_no_zip_may_have_are_refused(tmp_path, name):
    (tmp_path / "images").mkdir()
    path = os.fsencode(tmp_path / "images") + b"/" + name
    try:
        descriptor = os.open(path, os.O_CREAT)
    except OSError:
        pytest.skip("this file system has no such names")
    os.close(descriptor)
    with pytest.raises(
        InvalidArchive, match=r"1 files have names with control characters.*'images/.*png'; rename them"
    ):
        names_in(tmp_path)


def test_a_file_larger_than_allowed_is_not_read(tmp_path):
    written(tmp_path, "1.png", content=bytes(2 * 2**20))
    with Folder(tmp_path, max_files=10) as folder:
        assert len(folder.read("1.png", 2 * 2**20)) == 2 * 2**20
        with pytest.raises(UnreadableScan, match=r"1\.png has 2\.0 MiB, 1\.0 MiB are allowed"):
            folder.read("1.png", 2**20)


def test_a_file_that_is_gone_is_unreadable(tmp_path):
    written(tmp_path, "1.png", "2.png")
    with Folder(tmp_path, max_files=10) as folder:
        (tmp_path / "1.png").unlink()
        with pytest.raises(UnreadableScan, match=r"1\.png cannot be read: No such file"):
            folder.read("1.png", 100)
        assert folder.read("2.png", 100) == b"scan"


def test_equal_folders_have_equal_sums_and_any_change_another_one(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "images" / "a.png").write_bytes(b"a")
        (tmp_path / name / "images" / "b.png").write_bytes(b"b")

    def sums():
        return {name: Folder(tmp_path / name, max_files=9).sha256() for name in ("one", "two")}

    assert len(set(sums().values())) == 1
    (tmp_path / "two" / "images" / "b.png").write_bytes(b"c")
    assert len(set(sums().values())) == 2
    (tmp_path / "two" / "images" / "b.png").rename(tmp_path / "two" / "images" / "c.png")
    (tmp_path / "two" / "images" / "c.png").write_bytes(b"b")
    assert len(set(sums().values())) == 2
