from __future__ import annotations

import pytest

from octa_backend.data.folder import Folder
from octa_backend.data.scan_files import count_ignored, distinct, is_zip, picture_names, scan_names
from octa_backend.errors import InvalidArchive
from tests.data.zips import zip_of


def test_a_zip_is_known_by_its_name_or_its_first_bytes(tmp_path):
    zipped = zip_of(tmp_path / "upload", {"a.png": b"x"})
    plain = tmp_path / "plain"
    plain.write_bytes(b"\x89PNG")
    assert [is_zip(zipped, "scans"), is_zip(plain, "Scans.ZIP"), is_zip(plain, "scan.png")] == [True, True, False]


def test_the_images_of_a_folder_are_its_scans(tmp_path):
    for name in ("b/2.TIFF", "b/.hidden.png", "a.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    folder = Folder(tmp_path, max_files=10)
    names = scan_names(folder)
    assert (names, count_ignored(folder, names)) == (["a.png", "b/2.TIFF"], 1)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"x")
    with pytest.raises(InvalidArchive, match=r"1 files came, but no image; send scans whose names end in \.png"):
        scan_names(Folder(tmp_path, max_files=10))


def test_pictures_of_different_scans_have_different_names_also_on_windows():
    scans = ["a/1.png", "b/1.png", "c/1.png", "c/1.tif", "c/1.png.gif", "D.png", "d.png", "x.y.png"]
    names = picture_names(scans)
    assert names == {
        "a/1.png": "a/1",
        "b/1.png": "b/1",
        "c/1.png": "c/1_2.png",
        "c/1.tif": "c/1.tif",
        "c/1.png.gif": "c/1.png",
        "D.png": "D.png",
        "d.png": "d_2.png",
        "x.y.png": "x.y",
    }
    assert len({name.casefold() for name in names.values()}) == len(scans)


def test_a_name_that_is_taken_gets_a_number():
    assert distinct("a/Eye.png", {"a/eye.png", "a/eye_2.png"}) == "a/Eye_3.png"
    assert distinct("b/Eye.png", {"a/eye.png"}) == "b/Eye.png"
