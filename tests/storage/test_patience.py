from __future__ import annotations

import errno
from pathlib import Path

import pytest

from octa_backend.storage import patience
from octa_backend.storage.files import folder_written_aside, remove, write_aside

HELD = [PermissionError(errno.EACCES, "in use"), OSError(errno.ENOTEMPTY, "not empty")]


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(patience, "WAITS", True)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0)


class Refusing:
    """Does what it is asked to, but not the first times."""

    def __init__(self, act, error, times):
        self.act, self.error, self.left = act, error, times

    def __call__(self, *given, **options):
        if self.left:
            self.left -= 1
            raise self.error
        return self.act(*given, **options)


def once_refused(monkeypatch, owner, name, error):
    refusing = Refusing(getattr(owner, name), error, times=3)

    def method(*given, **options):
        return refusing(*given, **options)

    monkeypatch.setattr(owner, name, method)
    return refusing


@pytest.mark.parametrize("error", HELD)
def test_what_another_program_holds_for_a_moment_is_renamed_all_the_same(windows, monkeypatch, tmp_path, error):
    once_refused(monkeypatch, Path, "replace", error)
    with folder_written_aside(tmp_path / "model") as aside:
        (aside / "card.json").write_text("{}")
    write_aside(tmp_path / "index.json", b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "model"]


@pytest.mark.parametrize("error", HELD)
def test_what_another_program_holds_for_a_moment_is_removed_all_the_same(windows, monkeypatch, tmp_path, error):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    refusals = [once_refused(monkeypatch, Path, "unlink", error), once_refused(monkeypatch, Path, "rmdir", error)]
    monkeypatch.setattr("octa_backend.storage.files.shutil.rmtree", lambda path, **options: path.rmdir())
    for name in ("file", "folder"):
        remove(tmp_path / name)
    assert [refusing.left for refusing in refusals] == [0, 0]
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_for_long_is_refused_in_the_end(windows, monkeypatch, tmp_path):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.05)
    refusing = Refusing(remove, HELD[0], times=10**9)
    with pytest.raises(PermissionError):
        patience.patiently(refusing)
    assert 10**9 - refusing.left > 1


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "not there"), OSError(errno.ENOSPC, "full")])
def test_other_faults_are_told_at_once(windows, error):
    refusing = Refusing(str, error, times=1)
    with pytest.raises(OSError, match=r"not there|full"):
        patience.patiently(refusing)
    assert refusing.left == 0


@pytest.mark.parametrize("error", HELD)
def test_other_systems_hold_nothing_and_a_refusal_is_told_at_once(monkeypatch, error):
    monkeypatch.setattr(patience, "WAITS", False)
    refusing = Refusing(str, error, times=1)
    with pytest.raises(OSError, match=r"in use|not empty"):
        patience.patiently(refusing)
