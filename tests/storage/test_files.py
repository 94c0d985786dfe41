from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import pytest

from octa_backend.data import viewing
from octa_backend.data.intake import prepare
from octa_backend.data.limits import IntakeLimits
from octa_backend.errors import StorageFull
from octa_backend.storage.files import (
    GONE_FILE,
    RESERVE_BYTES,
    Files,
    disk_full_explained,
    folder_written_aside,
    part_name,
    remove,
    removed_after,
    write_aside,
)
from tests.data.zips import dataset, zip_of
from tests.fakes import linked
from tests.held import KNOWN, held_at_removal


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_prepare_clears_what_was_left_half_written_and_nothing_else(files):
    for kept in ("datasets/abc", "models/m-e1", "jobs/j1/checkpoints"):
        (files.root / kept).mkdir(parents=True)
    (files.job_log("j1")).write_text("log")
    part_name(files.dataset("abc")).mkdir()
    left = part_name(files.model("m-e2"))
    (left / "deep").mkdir(parents=True)
    os.utime(left, times=(0, 0))
    files.new_upload().write_bytes(b"half")
    (files.uploads / "folder").mkdir()
    files.prepare()
    assert names(files.root / "datasets") == ["abc"]
    assert names(files.root / "models") == ["m-e1"]
    assert names(files.uploads) == []
    assert names(files.job("j1")) == ["checkpoints", "worker.log"]


def test_prepare_clears_what_a_killed_check_of_an_upload_left(files, tmp_path, monkeypatch):
    """The names that lie in datasets/ while a zip is decoded, left there as by a kill."""
    seen: list[str] = []

    def note_names(*given):
        seen.extend(names(files.root / "datasets"))
        return original(*given)

    original = viewing.decode_image
    monkeypatch.setattr(viewing, "decode_image", note_names)
    aside = part_name(files.dataset("abc"))
    limits = IntakeLimits(max_files=100, max_unpacked_bytes=2**24, max_ratio=200, max_scan_pixels=10_000)
    prepare(zip_of(tmp_path / "scans.zip", dataset()), aside, limits)
    remove(aside)
    for name in seen:
        (files.root / "datasets" / name).mkdir(exist_ok=True)
    files.prepare()
    assert seen
    assert names(files.root / "datasets") == []


def test_prepare_leaves_a_model_alone_that_a_worker_publishes_meanwhile(files):
    """A worker outlives its server, and `octa import` needs none."""
    with folder_written_aside(files.model("m-e1")) as aside:
        (aside / "card.json").write_text("{}")
        files.prepare()
    assert names(files.model("m-e1")) == ["card.json"]


def test_what_cannot_be_removed_does_not_stop_the_start_and_goes_at_the_next_one(files, monkeypatch, caplog):
    left = part_name(files.dataset("abc"))
    left.mkdir()

    def refuse(path, **options):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        files.prepare()
    assert f"{left} could not be removed yet" in caplog.text
    files.prepare()
    assert names(files.root / "datasets") == []


def test_a_deleted_model_that_was_held_goes_at_the_next_start(files):
    held, kept = files.model("m-e1"), files.model("m-e2")
    for folder in (held, kept):
        folder.mkdir()
    (held / GONE_FILE).touch()
    files.prepare()
    assert names(files.models) == ["m-e2"]


def test_a_folder_of_passing_files_is_removed_also_after_an_error(tmp_path):
    with removed_after(tmp_path / "one") as folder:
        folder.mkdir()
    (tmp_path / "two").mkdir()
    with pytest.raises(RuntimeError), removed_after(tmp_path / "two"):
        raise RuntimeError
    assert names(tmp_path) == []


@KNOWN
def test_an_error_keeps_nothing_of_a_folder_that_is_removed(tmp_path, monkeypatch):
    def read():
        array = np.load(tmp_path / "folder" / "array.npy", mmap_mode="r")
        raise RuntimeError(array.shape)

    def fail():
        try:
            read()
        except RuntimeError as error:
            raise KeyError("in words") from error

    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "array.npy", np.zeros(9))
    noted = held_at_removal(monkeypatch)
    with pytest.raises(KeyError, match="in words"), removed_after(tmp_path / "folder"):
        fail()
    assert noted == [set()]


def test_what_cannot_be_removed_after_its_use_hides_neither_outcome_nor_error(tmp_path, monkeypatch, caplog):
    def refuse(path, **options):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with removed_after(tmp_path):
        pass
    with pytest.raises(RuntimeError), removed_after(tmp_path):
        raise RuntimeError
    assert caplog.text.count(f"{tmp_path} could not be removed") == 2


def test_names_for_uploads_and_parts_are_never_the_same(files):
    target = files.model("m")
    assert len({files.new_upload() for _ in range(100)} | {part_name(target) for _ in range(100)}) == 200


def test_a_folder_written_aside_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with folder_written_aside(target) as aside:
        (aside / "card.json").write_text("{}")
        assert not target.exists()
    assert names(target) == ["card.json"]
    with pytest.raises(RuntimeError), folder_written_aside(tmp_path / "other") as aside:  # noqa: PT012
        (aside / "card.json").write_text("{}")
        raise RuntimeError
    assert names(tmp_path) == ["model"]


def test_a_file_written_aside_replaces_the_old_one_and_leaves_no_part(tmp_path):
    target = tmp_path / "index.json"
    write_aside(target, b"one")
    write_aside(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["index.json"]


def test_remove_takes_files_folders_links_and_nothing(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    linked(tmp_path / "link", tmp_path / "kept")
    for name in ("link", "never-there"):
        remove(tmp_path / name)
    assert names(tmp_path / "kept") == ["file"]
    remove(tmp_path / "kept")
    assert names(tmp_path) == []


def test_require_free_leaves_the_reserve_alone(files, monkeypatch):
    monkeypatch.setattr(Files, "free_bytes", lambda self: RESERVE_BYTES + 1000)
    files.require_free(1000)
    with pytest.raises(StorageFull, match=r"64 MiB must stay free, but only 64 MiB are free.*delete old jobs"):
        files.require_free(1001)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_explained(files, number):
    with pytest.raises(StorageFull, match=r"disk is full.*nothing was kept"), disk_full_explained(files):
        raise OSError(number, "full")


def test_other_faults_of_the_system_are_not_called_a_full_disk(files):
    with pytest.raises(PermissionError), disk_full_explained(files):
        raise PermissionError(errno.EACCES, "no")


def test_a_folder_is_removed_after_errors_that_name_each_other_as_causes(tmp_path):
    folder, first, second = tmp_path / "aside", ValueError("one"), ValueError("two")
    folder.mkdir()
    first.__cause__, second.__cause__ = second, first
    with pytest.raises(ValueError, match="one"), removed_after(folder):
        raise first
    assert not folder.exists()
