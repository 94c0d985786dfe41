from __future__ import annotations

import os
import tempfile
import types

import pytest

from octa_backend.errors import OctaError
from octa_backend.storage.outputs import output_folder


def test_a_folder_that_can_be_written_to_is_made_and_stays_empty(tmp_path):
    assert list(output_folder(tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_of_windows_that_takes_no_files_is_refused_at_once(tmp_path, monkeypatch):
    """There Python's `tempfile` takes the refusal for a name that is taken, and tries two thousand million others."""
    tried = []

    def refuse(*given, **options):
        tried.append(given)
        if len(tried) > 100:
            raise SystemExit("it goes on trying")
        raise PermissionError(13, "Permission denied")

    windows = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
    windows.name, windows.open = "nt", refuse
    monkeypatch.setattr(tempfile, "_os", windows)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OctaError, match="cannot be written to: permission denied; name another folder"):
        output_folder(tmp_path)
    assert len(tried) == 1
