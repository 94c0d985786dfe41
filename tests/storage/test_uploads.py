from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from octa_backend.errors import StorageFull
from octa_backend.storage.files import Files
from octa_backend.storage.uploads import UploadWriter


def test_an_upload_is_written_hashed_and_measured_piece_by_piece(files):
    with UploadWriter(files, "scans.zip") as writer:
        for piece in (b"one", b"", b"two"):
            writer.write(piece)
        upload = writer.close()
        assert upload.path.read_bytes() == b"onetwo"
    assert upload.sha256 == hashlib.sha256(b"onetwo").hexdigest()
    assert (upload.size_bytes, upload.name) == (6, "scans.zip")
    assert not upload.path.exists()


def test_an_upload_that_breaks_off_is_gone(files):
    with pytest.raises(RuntimeError), UploadWriter(files, "scans.zip") as writer:  # noqa: PT012
        writer.write(b"half")
        raise RuntimeError
    assert list(files.uploads.iterdir()) == []


def test_an_upload_that_was_moved_away_stays_where_it_is(files, tmp_path):
    with UploadWriter(files, "scans.zip") as writer:
        writer.write(b"all")
        writer.close().path.replace(tmp_path / "kept.zip")
    assert (tmp_path / "kept.zip").read_bytes() == b"all"


def test_an_upload_stops_before_the_reserve_is_touched(files, monkeypatch):
    with pytest.raises(StorageFull), UploadWriter(files, "scans.zip") as writer:  # noqa: PT012
        writer.write(b"fits")
        monkeypatch.setattr(Files, "free_bytes", lambda self: 0)
        writer.write(b"does not")
    assert list(files.uploads.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("sizes", [(100_000,), (3000, 3000), (100,)], ids=["one large", "two small", "one small"])
def test_a_disk_that_is_full_on_writing_is_an_error_in_words_and_nothing_is_left(files, monkeypatch, sizes):
    name = files.uploads / "full.part"
    name.symlink_to("/dev/full")  # the system answers every write with ENOSPC
    monkeypatch.setattr(Files, "new_upload", lambda self: name)
    with pytest.raises(StorageFull, match="disk is full"), UploadWriter(files, "scans.zip") as writer:  # noqa: PT012
        for size in sizes:
            writer.write(bytes(size))
        writer.close()
    assert list(files.uploads.iterdir()) == []
    assert Path("/dev/full").exists()
